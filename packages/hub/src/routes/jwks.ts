import { z } from "zod";
import type { SigningKeys } from "../auth/index.ts";
import { anyObject } from "../wire/index.ts";
import { anyone } from "./access.ts";
import { PUBLIC } from "./does.ts";
import { json, type Route, route } from "./route.ts";

/** How long others may go without asking again, in seconds: a new secret is added at least so long before it signs. */
const FRESH_SECONDS = 300;

/** The public keys of what this hub signs (RFC 7517), the same at every replica. */
export const jwksRoutes = (keys: Pick<SigningKeys, "jwks">): Route[] => [
  route({
    method: "GET",
    path: "/.well-known/jwks.json",
    access: anyone,
    does: PUBLIC,
    quiet: true,
    summary: "The public keys of what the hub signs (RFC 7517)",
    replies: { 200: z.object({ keys: z.array(anyObject) }) },
    handler: () => json(200, keys.jwks(), { "cache-control": `public, max-age=${FRESH_SECONDS}` }),
  }),
];
