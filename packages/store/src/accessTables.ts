import type { Uuid } from "@rootstock/protocol";
import type { ColumnType, Generated } from "kysely";
import type { DefaultJson, DefaultTime, Labels, Nullable } from "./columnTypes.ts";

/** Row types of groups and policies (migration 0020). */

export type GroupType = "explicit" | "project_agents";
export type GroupRole = "member" | "admin" | "owner";

export interface GroupsTable {
  id: Uuid;
  name: string;
  slug: string;
  description: Generated<string>;
  group_type: Generated<GroupType>;
  project_id: Nullable<Uuid>;
  labels: DefaultJson<Labels>;
  annotations: DefaultJson<Labels>;
  created: DefaultTime;
  updated: DefaultTime;
  created_by: Nullable<Uuid>;
  owner_id: Nullable<Uuid>;
}

/** One of `user_id`, `agent_id` and `child_group_id` is set. */
export interface GroupMembershipsTable {
  id: Generated<Uuid>;
  group_id: Uuid;
  user_id: Nullable<Uuid>;
  agent_id: Nullable<Uuid>;
  child_group_id: Nullable<Uuid>;
  role: Generated<GroupRole>;
  added_by: Nullable<string>;
  added_at: DefaultTime;
}

export type PolicyScopeType = "hub" | "project" | "resource";
export type PolicyEffect = "allow" | "deny";

/** What must hold for a policy to count; all that is given (spec/03 6.3). */
export interface PolicyConditions {
  /** Labels of the resource. */
  readonly labels?: Labels;
  /** RFC 3339. */
  readonly validFrom?: string;
  /** RFC 3339. */
  readonly validUntil?: string;
  /** Addresses or CIDR ranges that the call must come from. */
  readonly sourceIps?: readonly string[];
  /** The caller must be an agent that this principal has started, itself or through others. */
  readonly delegatedFrom?: { readonly principalType: "user" | "agent"; readonly principalId: Uuid };
  /** The caller must be an agent that somebody in this group has started. */
  readonly delegatedFromGroup?: Uuid;
  /** How visible the resource must be. Ours: what belongs to no project is taken to be `team`. */
  readonly visibility?: readonly string[];
}

export interface PoliciesTable {
  id: Uuid;
  name: string;
  description: Generated<string>;
  scope_type: PolicyScopeType;
  scope_id: Nullable<Uuid>;
  /** Follows `scope_id`; never written. */
  project_id: ColumnType<Uuid | null, never, never>;
  resource_type: Generated<string>;
  resource_id: Nullable<Uuid>;
  actions: readonly string[];
  effect: PolicyEffect;
  conditions: DefaultJson<PolicyConditions>;
  /** Follows `conditions`; never written. */
  delegated_from: ColumnType<Uuid | null, never, never>;
  /** Follows `conditions`; never written. */
  delegated_from_group: ColumnType<Uuid | null, never, never>;
  /** What of it decides, as JSON (migration 0031). Follows the rest; never written. */
  facts: ColumnType<string, never, never>;
  priority: Generated<number>;
  labels: DefaultJson<Labels>;
  annotations: DefaultJson<Labels>;
  created: DefaultTime;
  updated: DefaultTime;
  created_by: Nullable<Uuid>;
  /** Made by the hub itself: its name is nobody else's. */
  seeded: Generated<boolean>;
}

/** One of `user_id`, `group_id` and `agent_id` is set. */
export interface PolicyBindingsTable {
  id: Generated<Uuid>;
  policy_id: Uuid;
  user_id: Nullable<Uuid>;
  group_id: Nullable<Uuid>;
  agent_id: Nullable<Uuid>;
  created: DefaultTime;
  created_by: Nullable<Uuid>;
}

/** One row: the version of groups, nestings, policies and bindings, which triggers change (migration 0040). */
export interface AccessVersionTable {
  one: Generated<boolean>;
  version: Generated<string>;
}

export interface AccessTables {
  groups: GroupsTable;
  group_memberships: GroupMembershipsTable;
  policies: PoliciesTable;
  policy_bindings: PolicyBindingsTable;
  access_version: AccessVersionTable;
}
