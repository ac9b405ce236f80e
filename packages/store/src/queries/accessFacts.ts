import type { Uuid } from "@rootstock/protocol";
import { type QueryResult, type RawBuilder, sql } from "kysely";
import type { GroupRole, GroupType, PolicyConditions, PolicyEffect, PolicyScopeType } from "../accessTables.ts";
import type { Db } from "../database.ts";
import { statement } from "../statement.ts";
import { directGroupIds, effectiveGroupIds } from "./groups.ts";

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
type GroupFields = Told<Group, ["id", "slug", "projectId", "type", "role"]>;
/** What `policy_facts` makes of a policy (migration 0031). */
type PolicyFields = Told<
  StoredPolicy,
  ["id", "name", "scopeType", "scopeId", "resourceType", "resourceId", "actions", "effect", "priority", "conditions"]
>;

/** The groups of `effective`, with the role of the principal's own membership. */
const groupsJson = (own: RawBuilder<boolean>) => sql`
  (select coalesce(json_agg(json_build_array(g.id, g.slug, g.project_id, g.group_type, m.role) order by g.id), '[]')
     from effective e join groups g on g.id = e.id
     left join group_memberships m on m.group_id = g.id and ${own})::text`;

/** Those policies of `reaching` of which `holds` is true. */
const policiesJson = (holds: RawBuilder<boolean>) => sql`
  (select '[' || coalesce(string_agg(p.facts, ',' order by p.id), '') || ']'
     from reaching join policies p on p.id = reaching.id
    where ${holds})`;

interface Texts {
  readonly groups: string;
  readonly policies: string;
}

const groupOf = ([id, slug, projectId, type, role]: GroupFields): Group => ({ id, slug, projectId, type, role });

const policyOf = (fields: PolicyFields): StoredPolicy => {
  const [id, name, scopeType, scopeId, resourceType, resourceId, actions, effect, priority, conditions] = fields;
  return { id, name, scopeType, scopeId, resourceType, resourceId, actions, effect, priority, conditions };
};

const parsed = ({ rows }: QueryResult<Texts>): AccessFactRows => {
  const { groups, policies } = rows[0] ?? { groups: "[]", policies: "[]" };
  const groupsTold: readonly GroupFields[] = JSON.parse(groups);
  const policiesTold: readonly PolicyFields[] = JSON.parse(policies);
  return { groups: groupsTold.map(groupOf), policies: policiesTold.map(policyOf), stamp: `${groups} ${policies}` };
};

const ofUser = statement<Uuid, Texts>((given) => {
  const id = given((userId) => userId);
  return sql`
    with recursive ${effectiveGroupIds("effective", directGroupIds({ type: "user", id }))},
    reaching (id) as (
      select b.policy_id from policy_bindings b where b.user_id = ${id}
      union
      select b.policy_id from effective e join policy_bindings b on b.group_id = e.id)
    select ${groupsJson(sql`m.user_id = ${id}`)} as groups,
        ${policiesJson(sql`p.delegated_from is null and p.delegated_from_group is null`)} as policies`;
});

/** A person's. Policies that want an agent to act for somebody are none of theirs. */
export const userAccessFacts = async (db: Db, userId: Uuid): Promise<AccessFactRows> =>
  parsed(await ofUser(db, userId));

interface AgentAndAncestry {
  readonly id: Uuid;
  readonly ancestry: readonly Uuid[];
}

const ofAgent = statement<AgentAndAncestry, Texts>((given) => {
  const id = given((agent) => agent.id);
  const ancestry = given((agent) => [...agent.ancestry]);
  return sql`
    with recursive ${effectiveGroupIds("effective", directGroupIds({ type: "agent", id }))},
    people (id) as (
      select u.id from users u where u.id = any(${ancestry}::uuid[]) and u.status = 'active'),
    acts_for (id) as (
      select id from people
      union
      select a.id from agents a where a.id = any(${ancestry}::uuid[]) and a.deleted_at is null),
    ${effectiveGroupIds(
      "theirs",
      sql`select m.group_id as id from people join group_memberships m on m.user_id = people.id`,
    )},
    reaching (id) as (
      select b.policy_id from policy_bindings b where b.agent_id = ${id}
      union
      select b.policy_id from effective e join policy_bindings b on b.group_id = e.id
      union
      select d.id from acts_for f join policies d on d.delegated_from = f.id
       where not exists (select from policy_bindings b where b.policy_id = d.id)
      union
      select d.id from theirs t join policies d on d.delegated_from_group = t.id
       where not exists (select from policy_bindings b where b.policy_id = d.id))
    select ${groupsJson(sql`m.agent_id = ${id}`)} as groups,
        ${policiesJson(sql`(p.delegated_from is null or p.delegated_from in (select id from acts_for))
            and (p.delegated_from_group is null or p.delegated_from_group in (select id from theirs))`)} as policies`;
});

/**
 * An agent's: policies bound to it and its groups, and those that nobody is bound to and that name somebody it acts for.
 * It acts for whoever started it, directly or through others, as long as they are there and not suspended.
 */
export const agentAccessFacts = async (db: Db, agent: AgentAndAncestry): Promise<AccessFactRows> =>
  parsed(await ofAgent(db, agent));
