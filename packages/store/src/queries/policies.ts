import type { Uuid } from "@rootstock/protocol";
import { type Insertable, type Selectable, sql, type Updateable } from "kysely";
import type { PoliciesTable } from "../accessTables.ts";
import { audited } from "../audit.ts";
import type { Db } from "../database.ts";
import { all, type Condition, type Page, type Position } from "./keyset.ts";

/** Policies, and whom they are bound to (spec/03 6.3). */

export type PolicyRow = Selectable<PoliciesTable>;

/** What a list of policies is narrowed to; all given fields must hold. */
export interface PolicyFilter {
  readonly scopeType?: string | undefined;
  readonly scopeId?: Uuid | undefined;
  readonly resourceType?: string | undefined;
  readonly effect?: string | undefined;
}

const conditions = (f: PolicyFilter): Condition => {
  const list: Condition[] = [];
  if (f.scopeType !== undefined) list.push(sql<boolean>`policies.scope_type = ${f.scopeType}`);
  if (f.scopeId !== undefined) list.push(sql<boolean>`policies.scope_id = ${f.scopeId}`);
  if (f.resourceType !== undefined) list.push(sql<boolean>`policies.resource_type = ${f.resourceType}`);
  if (f.effect !== undefined) list.push(sql<boolean>`policies.effect = ${f.effect}`);
  return all(list);
};

const later = (position: Position | undefined): Condition =>
  position === undefined
    ? sql<boolean>`true`
    : sql<boolean>`(policies.created, policies.id) > (${position.created}, ${position.id}::uuid)`;

/** One page of policies, oldest first. */
export const listPolicies = (db: Db, filter: PolicyFilter, page: Page): Promise<PolicyRow[]> =>
  db
    .selectFrom("policies")
    .selectAll()
    .where(conditions(filter))
    .where(later(page.after))
    .orderBy("created")
    .orderBy("id")
    .limit(page.limit)
    .execute();

/** How many policies the filter matches. */
export const countPolicies = async (db: Db, filter: PolicyFilter): Promise<number> => {
  const row = await db
    .selectFrom("policies")
    .where(conditions(filter))
    .select(sql<number>`count(*)::int`.as("total"))
    .executeTakeFirstOrThrow();
  return row.total;
};

export const policyById = (db: Db, id: Uuid): Promise<PolicyRow | undefined> =>
  db.selectFrom("policies").selectAll().where("id", "=", id).executeTakeFirst();

/**
 * Inserts the policy. Throws a foreign key violation for a project that does not exist, a check violation for a scope
 * without its id. `conditions` must be parsed: an id in them that is no UUID fails in the statement.
 */
export const insertPolicy = (tx: Db, policy: Insertable<PoliciesTable>): Promise<PolicyRow> =>
  audited(tx, (own) => own.insertInto("policies").values(policy).returningAll().executeTakeFirstOrThrow());

/** All but the scope. */
export type PolicyChange = Pick<
  Updateable<PoliciesTable>,
  | "name"
  | "description"
  | "resource_type"
  | "resource_id"
  | "actions"
  | "effect"
  | "conditions"
  | "priority"
  | "labels"
  | "annotations"
>;

/** Changes the policy; undefined when there is none. Throws a unique violation for a seeded one with a seeded one's name. */
export const changePolicy = (tx: Db, id: Uuid, change: PolicyChange): Promise<PolicyRow | undefined> =>
  audited(tx, (own) =>
    own
      .updateTable("policies")
      .set({ ...change, updated: sql`now()` })
      .where("id", "=", id)
      .returningAll()
      .executeTakeFirst(),
  );

/** Deletes the policy with its bindings. False when there was none. */
export const deletePolicy = (tx: Db, id: Uuid): Promise<boolean> =>
  audited(tx, async (own) => {
    const result = await own.deleteFrom("policies").where("id", "=", id).executeTakeFirst();
    return result.numDeletedRows > 0n;
  });

/** Whom a policy is bound to. */
export interface PolicyBinding {
  readonly policyId: Uuid;
  readonly principalType: "user" | "group" | "agent";
  readonly principalId: Uuid;
}

const COLUMN = { user: "user_id", group: "group_id", agent: "agent_id" } as const;

/** The policy's bindings, oldest first. */
export const policyBindings = async (db: Db, policyId: Uuid): Promise<readonly PolicyBinding[]> => {
  const { rows } = await sql<PolicyBinding>`
    select policy_id as "policyId", coalesce(user_id, group_id, agent_id) as "principalId",
        case when user_id is not null then 'user' when group_id is not null then 'group' else 'agent' end
          as "principalType"
      from policy_bindings where policy_id = ${policyId} order by created, id`.execute(db);
  return rows;
};

/**
 * Binds the policy; one that is bound so already stays so once. Returns whether it was not. Throws a foreign key violation
 * for an unknown policy or principal.
 */
export const bindPolicy = (tx: Db, binding: PolicyBinding & { readonly createdBy: Uuid | null }): Promise<boolean> =>
  audited(tx, async (own) => {
    const bound = await own
      .insertInto("policy_bindings")
      .values({
        policy_id: binding.policyId,
        [COLUMN[binding.principalType]]: binding.principalId,
        created_by: binding.createdBy,
      })
      .onConflict((c) => c.doNothing())
      .returning("id")
      .executeTakeFirst();
    return bound !== undefined;
  });

/** Takes a binding back. False when there was none. */
export const unbindPolicy = (tx: Db, binding: PolicyBinding): Promise<boolean> =>
  audited(tx, async (own) => {
    const result = await own
      .deleteFrom("policy_bindings")
      .where("policy_id", "=", binding.policyId)
      .where(COLUMN[binding.principalType], "=", binding.principalId)
      .executeTakeFirst();
    return result.numDeletedRows > 0n;
  });
