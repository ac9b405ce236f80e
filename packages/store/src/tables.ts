import type { AccessTables } from "./accessTables.ts";
import type { AgentTables } from "./agentTables.ts";
import type { AuditTables } from "./auditTables.ts";
import type { AuthResetTables } from "./authResetTables.ts";
import type { IntentTables } from "./intentTables.ts";
import type { LoginTables } from "./loginTables.ts";
import type { MaintenanceTables } from "./maintenanceTables.ts";
import type { PeopleTables } from "./peopleTables.ts";
import type { ProjectTables } from "./projectTables.ts";
import type { RateTables } from "./rateTables.ts";
import type { ReplicaTables } from "./replicaTables.ts";
import type { RuntimeBrokerTables } from "./runtimeBrokerTables.ts";

/** Row types, one per table, as the driver reads them. `schemaDrift.test.ts` holds them against the migrated catalog. */

export type * from "./accessTables.ts";
export type * from "./agentTables.ts";
export type * from "./auditTables.ts";
export type * from "./authResetTables.ts";
export type { Labels, Visibility } from "./columnTypes.ts";
export type * from "./intentTables.ts";
export type * from "./loginTables.ts";
export type * from "./maintenanceTables.ts";
export type * from "./peopleTables.ts";
export type * from "./projectTables.ts";
export type * from "./rateTables.ts";
export type * from "./replicaTables.ts";
export type * from "./runtimeBrokerTables.ts";

export interface Tables
  extends AccessTables,
    AgentTables,
    AuditTables,
    AuthResetTables,
    IntentTables,
    LoginTables,
    MaintenanceTables,
    PeopleTables,
    ProjectTables,
    RateTables,
    ReplicaTables,
    RuntimeBrokerTables {}
