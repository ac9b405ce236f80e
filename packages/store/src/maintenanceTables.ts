import type { Uuid } from "@rootstock/protocol";
import type { Generated } from "kysely";

export interface MaintenanceTable {
  id: Generated<Uuid>;
  enabled: Generated<boolean>;
  message: Generated<string>;
}

/** Whether the hub is closed for maintenance. */
export interface MaintenanceTables {
  maintenance: MaintenanceTable;
}
