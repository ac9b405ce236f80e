import { audited } from "../audit.ts";
import type { Db } from "../database.ts";

/** Whether the hub is closed for maintenance, and what people are told; an empty message is none. */
export interface MaintenanceRow {
  readonly enabled: boolean;
  readonly message: string;
}

/** How it stands now (spec/03 5.10). */
export const readMaintenance = (db: Db): Promise<MaintenanceRow> =>
  db.selectFrom("maintenance").select(["enabled", "message"]).executeTakeFirstOrThrow();

/** Changes what is given and returns how it stands then. */
export const changeMaintenance = (
  db: Db,
  change: { readonly enabled: boolean | undefined; readonly message: string | undefined },
): Promise<MaintenanceRow> => {
  const { enabled, message } = change;
  if (enabled === undefined && message === undefined) return readMaintenance(db);
  return audited(db, (tx) =>
    tx
      .updateTable("maintenance")
      .set({ ...(enabled !== undefined && { enabled }), ...(message !== undefined && { message }) })
      .returning(["enabled", "message"])
      .executeTakeFirstOrThrow(),
  );
};
