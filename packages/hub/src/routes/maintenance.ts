import { changeMaintenance, type Db, type MaintenanceRow, readMaintenance } from "@rootstock/store";
import { z } from "zod";
import { type MaintenanceMode, messageOf } from "../auth/index.ts";
import { admins } from "./access.ts";
import { json, type Route, route } from "./route.ts";

/** Closing the hub for maintenance, and opening it again (spec/03 5.10). */

export interface MaintenanceDeps {
  readonly db: Db;
  readonly maintenance: Pick<MaintenanceMode, "know">;
  /** Called after a commit that touched what the change feed shows. */
  readonly changed: () => void;
}

const PATH = "/api/v1/admin/maintenance";
const MAX_MESSAGE = 1_000;

const stateReply = z.object({ enabled: z.boolean(), message: z.string() });

/** An empty message clears what was said before: people are told the usual words. */
const body = z.object({
  enabled: z.boolean().nullish(),
  message: z.string().trim().max(MAX_MESSAGE).nullish(),
});

export const maintenanceRoutes = ({ db, maintenance, changed }: MaintenanceDeps): Route[] => [
  route({
    method: "GET",
    path: PATH,
    access: admins,
    does: { action: "read", on: "hub" },
    summary: "Whether the hub is closed for maintenance",
    replies: { 200: stateReply },
    handler: async () => json(200, stateJson(await readMaintenance(db))),
  }),
  route({
    method: "PUT",
    path: PATH,
    access: admins,
    does: { action: "update", on: "hub" },
    body,
    summary: "Closes the hub for maintenance, or opens it",
    replies: { 200: stateReply },
    handler: async ({ body: { enabled, message } }) => {
      const state = await changeMaintenance(db, { enabled: enabled ?? undefined, message: message ?? undefined });
      maintenance.know(state);
      changed();
      return json(200, stateJson(state));
    },
  }),
];

const stateJson = (state: MaintenanceRow) => ({ enabled: state.enabled, message: messageOf(state) });
