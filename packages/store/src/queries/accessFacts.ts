import type { Uuid } from "@rootstock/protocol";
import { type QueryResult, type RawBuilder, sql } from "kysely";
import type { GroupRole, GroupType, PolicyConditions, PolicyEffect, PolicyScopeType } from "../accessTables.ts";
import type { Db } from "../database.ts";
import { statement } from "../statement.ts";
import { directGroupIds, effectiveGroupIds, forEach, isOf } from "./groups.ts";

/** A policy as it is stored, without what does not decide. */
export interface StoredPolicy {
  readonly id: Uuid;
  readonly name: string;
  readonly scopeType: PolicyScopeType;
  readonly scopeId: Uuid | null;
  readonly resourceType: string;
  readonly resourceId: Uuid | null;
  readonly actions: readonly string[];
  readonly effect: PolicyEffect;
  readonly priority: number;
  readonly conditions: PolicyConditions;
}

/**
 * What groups and policies say of a principal: one statement, whatever the nesting. Both lists come as JSON: the text that
 * they were parsed from tells whether anything has changed.
 */
export interface AccessFactRows {
  readonly groups: readonly {
    readonly id: Uuid;
    readonly slug: string;
    readonly projectId: Uuid | null;
    readonly type: GroupType;
    /** Null where it is in the group through another one, or is not added but found. */
    readonly role: GroupRole | null;
  }[];
  readonly policies: readonly StoredPolicy[];
  /** Equal exactly if both lists are. */
  readonly stamp: string;
}

type Group = AccessFactRows["groups"][number];

/** Values of `T` in this order: objects would be half as long again. */
type Told<T, Names extends readonly (keyof T)[]> = { readonly [I in keyof Names]: T[Names[I]] };
type GroupFields = Told<Group, ["id", "slug", "projectId", "type"]>;
type RoleFields = Told<Group, ["id", "role"]>;
/** What `policy_facts` makes of a policy (migration 0031). */
type PolicyFields = Told<
  StoredPolicy,
  ["id", "name", "scopeType", "scopeId", "resourceType", "resourceId", "actions", "effect", "priority", "conditions"]
>;

/** The groups of `effective`. */
const groupsJson = sql`
  (select coalesce(json_agg(json_build_array(g.id, g.slug, g.project_id, g.group_type) order by e.id), '[]')
     from effective e ${forEach(sql`select g.id, g.slug, g.project_id, g.group_type from groups g where g.id = e.id`)} g)::text`;

/** The principal's own roles. */
const rolesJson = (own: RawBuilder<unknown>) => sql`
  (select coalesce(json_agg(json_build_array(m.group_id, m.role) order by m.group_id), '[]')
     from group_memberships m where ${own})::text`;

/** The policies that groups of `effective` are bound to. */
const policiesOfGroups = sql`
  select b.policy_id from effective e
   ${forEach(sql`select b.policy_id from policy_bindings b where b.group_id = e.id`)} b`;

/** Those policies of `reaching` of which `holds` is true. */
const policiesJson = (holds: RawBuilder<unknown>) => sql`
  (select '[' || coalesce(string_agg(p.facts, ',' order by r.id), '') || ']'
     from reaching r ${forEach(sql`select p.facts from policies p where p.id = r.id and ${holds}`)} p)`;

interface Texts {
  readonly groups: string;
  readonly roles: string;
  readonly policies: string;
}

const policyOf = (fields: PolicyFields): StoredPolicy => {
  const [id, name, scopeType, scopeId, resourceType, resourceId, actions, effect, priority, conditions] = fields;
  return { id, name, scopeType, scopeId, resourceType, resourceId, actions, effect, priority, conditions };
};

const NOTHING: Texts = { groups: "[]", roles: "[]", policies: "[]" };

const parsed = ({ rows }: QueryResult<Texts>): AccessFactRows => {
  const { groups, roles, policies } = rows[0] ?? NOTHING;
  const groupsTold: readonly GroupFields[] = JSON.parse(groups);
  const rolesTold: readonly RoleFields[] = JSON.parse(roles);
  const policiesTold: readonly PolicyFields[] = JSON.parse(policies);
  const roleIn = new Map(rolesTold);
  return {
    groups: groupsTold.map(([id, slug, projectId, type]) => ({
      id,
      slug,
      projectId,
      type,
      role: roleIn.get(id) ?? null,
    })),
    policies: policiesTold.map(policyOf),
    stamp: `${groups} ${roles} ${policies}`,
  };
};

const ofUser = statement<Uuid, Texts>((given) => {
  const id = given((userId) => userId);
  return sql`
    with recursive ${effectiveGroupIds("effective", directGroupIds({ type: "user", id }))},
    reaching (id) as (
      select b.policy_id from policy_bindings b where b.user_id = ${id}
      union ${policiesOfGroups})
    select ${groupsJson} as groups, ${rolesJson(sql`m.user_id = ${id}`)} as roles,
        ${policiesJson(sql`p.delegated_from is null and p.delegated_from_group is null`)} as policies`;
});

/** A person's. Policies that want an agent to act for somebody are none of theirs. */
export const userAccessFacts = async (db: Db, userId: Uuid): Promise<AccessFactRows> =>
  parsed(await ofUser(db, userId));

interface AgentAndAncestry {
  readonly id: Uuid;
  readonly ancestry: readonly Uuid[];
}

/** Policies that are about agents acting for what is in the list `whom`, as far as they are bound to nobody. */
const delegated = (column: "delegated_from" | "delegated_from_group", whom: "acts_for" | "theirs") => sql`
  select p.id from ${sql.ref(whom)} w
   ${forEach(sql`
     select p.id from policies p where ${sql.ref(`p.${column}`)} = w.id
        and not exists (select from policy_bindings b where b.policy_id = p.id offset 0)`)} p`;

const ofAgent = statement<AgentAndAncestry, Texts>((given) => {
  const id = given((agent) => agent.id);
  // Few as well.
  const ancestors = sql`(select ancestor from unnest(${given((agent) => [...agent.ancestry])}::uuid[]) ancestor
      where (ancestor = ancestor) is true)`;
  return sql`
    with recursive ${effectiveGroupIds("effective", directGroupIds({ type: "agent", id }))},
    people (id) as (
      select u.id from ${ancestors} ancestors
       ${forEach(sql`select u.id from users u where u.id = ancestor and u.status = 'active'`)} u),
    acts_for (id) as (
      select id from people
      union
      select a.id from ${ancestors} ancestors
       ${forEach(sql`select a.id from agents a where a.id = ancestor and a.deleted_at is null`)} a),
    ${effectiveGroupIds(
      "theirs",
      sql`select m.group_id as id from people
           ${forEach(sql`select m.group_id from group_memberships m where ${isOf(sql`m.user_id`, sql`people.id`)}`)} m`,
    )},
    reaching (id) as (
      select b.policy_id from policy_bindings b where b.agent_id = ${id}
      union ${policiesOfGroups}
      union ${delegated("delegated_from", "acts_for")}
      union ${delegated("delegated_from_group", "theirs")})
    select ${groupsJson} as groups, ${rolesJson(sql`m.agent_id = ${id}`)} as roles,
        ${policiesJson(sql`(p.delegated_from is null or p.delegated_from in (select id from acts_for))
            and (p.delegated_from_group is null or p.delegated_from_group in (select id from theirs))`)} as policies`;
});

/**
 * An agent's: policies bound to it and its groups, and those that nobody is bound to and that name somebody it acts for.
 * It acts for whoever started it, directly or through others, as long as they are there and not suspended.
 */
export const agentAccessFacts = async (db: Db, agent: AgentAndAncestry): Promise<AccessFactRows> =>
  parsed(await ofAgent(db, agent));
