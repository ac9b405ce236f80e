import { z } from "zod";
import { authenticated } from "./access.ts";
import { NOTHING } from "./does.ts";
import { json, type Route, route } from "./route.ts";

/** What every client may know of the hub's settings (spec/02 section 8). */
export const settingsRoutes = (): Route[] => [
  route({
    method: "GET",
    path: "/api/v1/settings/public",
    access: authenticated,
    does: NOTHING,
    accessTokens: true,
    summary: "Settings that every client may know",
    replies: { 200: z.object({ telemetryEnabled: z.boolean() }) },
    handler: () => json(200, { telemetryEnabled: false }),
  }),
];
