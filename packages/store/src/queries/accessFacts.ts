import type { Uuid } from "@rootstock/protocol";
import { type QueryResult, type RawBuilder, sql } from "kysely";
import type { GroupRole, GroupType, PolicyConditions, PolicyEffect, PolicyScopeType } from "../accessTables.ts";
import type { Db } from "../database.ts";
import { type Given, statement } from "../statement.ts";
import { directGroups, effectiveGroupIds, forEach, isOf } from "./groups.ts";

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
  /** Whom its caller must act for, of the conditions, as the database spells them; null where it may be anybody. */
  readonly delegatedFrom: Uuid | null;
  readonly delegatedFromGroup: Uuid | null;
}

/** A group with what hangs on it. */
export interface GroupRules {
  readonly id: Uuid;
  readonly slug: string;
  readonly projectId: Uuid | null;
  readonly type: GroupType;
  /** Groups that it is in itself. */
  readonly within: readonly Uuid[];
  /** Policies bound to it. */
  readonly policies: readonly Uuid[];
  /** Policies, bound to nothing, about agents that act for somebody in it. */
  readonly delegated: readonly Uuid[];
}

/** What a principal has to do with groups and policies itself. */
export interface AccessStanding {
  /** Of groups, nestings, policies and bindings: what was read of them under the same version is still true. */
  readonly version: string;
  /** The groups that it is in itself, with its role there: null where it is not added but found. */
  readonly groups: readonly (readonly [Uuid, GroupRole | null])[];
  /** Policies bound to it, and those bound to nothing about agents that act for somebody of {@link actsFor}. */
  readonly policies: readonly StoredPolicy[];
  /** Whom an agent acts for, as far as they are there and not suspended; of a person, nobody. */
  readonly actsFor: readonly Uuid[];
  /** The groups that those people are in themselves. */
  readonly groupsOfPeople: readonly Uuid[];
}

/** A principal's standing, and where it leads. */
export interface AccessRules {
  readonly standing: AccessStanding;
  /** Every group that it, or somebody it acts for, is in at any depth; not those that only known ones are in. */
  readonly groups: readonly GroupRules[];
  /** What reaches it through those. */
  readonly policies: readonly StoredPolicy[];
}

/** What whoever asks knows as of a version. If that has changed, everything is told. */
export interface KnownRules {
  readonly version: string;
  /** Groups that need not be told: itself, all that it is in at any depth, and what reaches the principal through those. */
  readonly groups: readonly Uuid[];
}

/** Knows nothing. */
export const NOTHING_KNOWN: KnownRules = { version: "", groups: [] };

/** Values of `T` in this order: objects would be half as long again. */
type Told<T, Names extends readonly (keyof T)[]> = { readonly [I in keyof Names]: T[Names[I]] };
type GroupFields = Told<GroupRules, ["id", "slug", "projectId", "type", "within", "policies", "delegated"]>;
/** What `policy_facts` makes of a policy (migration 0031), with what goes by an index. */
type PolicyFields = [
  ...Told<StoredPolicy, ["id", "name", "scopeType", "scopeId", "resourceType", "resourceId", "actions"]>,
  ...Told<StoredPolicy, ["effect", "priority", "conditions"]>,
  ...Partial<Told<StoredPolicy, ["delegatedFrom", "delegatedFromGroup"]>>,
];

/** Lists are told as JSON: taken apart in one go, which costs a fraction of a row for each. */
interface StandingTexts {
  readonly version: string;
  readonly groups: string;
  readonly policies: string;
  readonly acts_for: string;
  readonly groups_of_people: string;
}

interface RulesTexts extends StandingTexts {
  readonly group_rules: string;
  readonly policies_of_groups: string;
}

const groupOf = (fields: GroupFields): GroupRules => {
  const [id, slug, projectId, type, within, policies, delegated] = fields;
  return { id, slug, projectId, type, within, policies, delegated };
};

const policyOf = (fields: PolicyFields): StoredPolicy => {
  const [id, name, scopeType, scopeId, resourceType, resourceId, actions, ...rest] = fields;
  const [effect, priority, conditions, delegatedFrom = null, delegatedFromGroup = null] = rest;
  const about = { scopeType, scopeId, resourceType, resourceId, actions };
  return { id, name, ...about, effect, priority, conditions, delegatedFrom, delegatedFromGroup };
};

const policiesIn = (json: string): readonly StoredPolicy[] => {
  const told: readonly PolicyFields[] = JSON.parse(json);
  return told.map(policyOf);
};

const standingOf = (texts: StandingTexts): AccessStanding => ({
  version: texts.version,
  groups: JSON.parse(texts.groups),
  policies: policiesIn(texts.policies),
  actsFor: JSON.parse(texts.acts_for),
  groupsOfPeople: JSON.parse(texts.groups_of_people),
});

const rulesOf = (texts: RulesTexts): AccessRules => {
  const groups: readonly GroupFields[] = JSON.parse(texts.group_rules);
  return { standing: standingOf(texts), groups: groups.map(groupOf), policies: policiesIn(texts.policies_of_groups) };
};

/** A statement without a table always has its one row. */
const only = <Row>({ rows }: QueryResult<Row>): Row => {
  const [row] = rows;
  if (row === undefined) throw new Error("a statement that always has one row had none");
  return row;
};

/** The ids that `rows` finds, as JSON, in order. */
const listed = (rows: RawBuilder<unknown>) => sql`
  (select coalesce(json_agg(id order by id), '[]') from (${rows}) as found (id))::text`;

/** The policies that `ids` finds, as JSON: each as it tells of itself, and of those few that are delegated, by whom. */
const policiesJson = (ids: RawBuilder<unknown>) => sql`
  (select '[' || coalesce(string_agg(
            case when p.delegated_from is null and p.delegated_from_group is null then p.facts
              else left(p.facts, -1) || ',' || coalesce(to_json(p.delegated_from)::text, 'null')
                || ',' || coalesce(to_json(p.delegated_from_group)::text, 'null') || ']' end, ','), '') || ']'
     from (${ids}) as reaching (id)
     ${forEach(sql`select p.facts, p.delegated_from, p.delegated_from_group from policies p where p.id = reaching.id`)} p)`;

/** Without its row, which nothing takes away, nothing would be believed twice. */
const version = sql`coalesce((select version from access_version), gen_random_uuid())::text`;

/** How a kind of principal is asked about. */
interface Asked {
  /** Named lists that the others use. */
  readonly lists: readonly RawBuilder<unknown>[];
  /** `(id, role)` of the groups that it is in itself. */
  readonly groups: RawBuilder<unknown>;
  /** Ids, each once. */
  readonly policies: RawBuilder<unknown>;
  /** Ids of whom it acts for, and of the groups that the people among them are in themselves. */
  readonly actsFor: RawBuilder<unknown>;
  readonly groupsOfPeople: RawBuilder<unknown>;
}

const standingColumns = ({ groups, policies, actsFor, groupsOfPeople }: Asked) => sql`
  ${version} as version,
  (select coalesce(json_agg(json_build_array(own.id, own.role) order by own.id), '[]') from (${groups}) own)::text as groups,
  ${policiesJson(policies)} as policies, ${listed(actsFor)} as acts_for, ${listed(groupsOfPeople)} as groups_of_people`;

const policiesOf = (group: RawBuilder<unknown>) =>
  sql`select b.policy_id from policy_bindings b where b.group_id = ${group}`;

/** Policies that are about agents acting for `whom`, as far as they are bound to nothing. */
const delegatedBy = (column: "delegated_from" | "delegated_from_group", whom: RawBuilder<unknown>) => sql`
  select p.id from policies p where ${sql.ref(`p.${column}`)} = ${whom}
     and not exists (select from policy_bindings b where b.policy_id = p.id offset 0)`;

const standing = <Who>(asked: (given: Given<Who>) => Asked) =>
  statement<Who, StandingTexts>((given) => {
    const about = asked(given);
    return sql`${about.lists.length > 0 ? sql`with ${sql.join(about.lists)}` : sql``} select ${standingColumns(about)}`;
  });

/** Of people's groups what is bound to them is named, not told: it is for the people, not for agents that act for them. */
const rules = <Who>(asked: (given: Given<Who>) => Asked) =>
  statement<{ readonly who: Who; readonly known: KnownRules }, RulesTexts>((given) => {
    const about = asked((read) => given(({ who }) => read(who)));
    const id = sql`told.id`;
    const known = sql`(select case when ${version} = ${given((p) => p.known.version)}
      then ${given((p) => [...p.known.groups])}::uuid[] else '{}' end)::uuid[]`;
    return sql`
      with recursive ${sql.join([
        ...about.lists,
        effectiveGroupIds("effective", sql`select own.id from (${about.groups}) own where own.id <> all(${known})`),
        effectiveGroupIds("theirs", sql`select t.id from (${about.groupsOfPeople}) t (id) where t.id <> all(${known})`),
      ])},
      told (id, own) as (
        select e.id, true from effective e
        union all
        select t.id, false from theirs t where t.id not in (select e.id from effective e)),
      ruled as materialized (
        select g.*, told.own, array(select m.group_id from group_memberships m where m.child_group_id = ${id}) as within,
            array(${policiesOf(id)}) as policies, array(${delegatedBy("delegated_from_group", id)}) as delegated
          from told ${forEach(sql`select g.id, g.slug, g.project_id, g.group_type from groups g where g.id = ${id}`)} g)
      select ${standingColumns(about)},
        (select coalesce(json_agg(json_build_array(id, slug, project_id, group_type, within, policies, delegated)), '[]')
           from ruled)::text as group_rules,
        ${policiesJson(sql`
          select unnest(policies || delegated) from ruled where own
          union select unnest(delegated) from ruled where not own`)} as policies_of_groups`;
  });

const NOBODY = sql`select null::uuid where false`;

const aboutUser = (given: Given<Uuid>): Asked => {
  const id = given((userId) => userId);
  return {
    lists: [],
    groups: directGroups({ type: "user", id }),
    policies: sql`select b.policy_id from policy_bindings b where b.user_id = ${id}`,
    actsFor: NOBODY,
    groupsOfPeople: NOBODY,
  };
};

const standingOfUser = standing(aboutUser);
const rulesOfUser = rules(aboutUser);

/** A person's standing: one statement. */
export const userAccessStanding = async (db: Db, userId: Uuid): Promise<AccessStanding> =>
  standingOf(only(await standingOfUser(db, userId)));

/** A person's standing and all that it leads to, read at the same moment: one statement, whatever the nesting. */
export const userAccessRules = async (db: Db, userId: Uuid, known = NOTHING_KNOWN): Promise<AccessRules> =>
  rulesOf(only(await rulesOfUser(db, { who: userId, known })));

/** An agent, and whoever started it, directly or through others: it acts for those that are there and not suspended. */
export interface AgentAndAncestry {
  readonly id: Uuid;
  readonly ancestry: readonly Uuid[];
}

const aboutAgent = (given: Given<AgentAndAncestry>): Asked => {
  const id = given((agent) => agent.id);
  // Few, whatever the planner thinks of lists.
  const ancestors = sql`(select ancestor from unnest(${given((agent) => [...agent.ancestry])}::uuid[]) ancestor
      where (ancestor = ancestor) is true)`;
  return {
    lists: [
      sql`people (id) as materialized (
        select u.id from ${ancestors} ancestors
         ${forEach(sql`select u.id from users u where u.id = ancestor and u.status = 'active'`)} u)`,
      sql`acts_for (id) as materialized (
        select id from people
        union
        select a.id from ${ancestors} ancestors
         ${forEach(sql`select a.id from agents a where a.id = ancestor and a.deleted_at is null`)} a)`,
    ],
    groups: directGroups({ type: "agent", id }),
    policies: sql`
      select b.policy_id from policy_bindings b where b.agent_id = ${id}
      union
      select p.id from acts_for ${forEach(delegatedBy("delegated_from", sql`acts_for.id`))} p`,
    actsFor: sql`select id from acts_for`,
    groupsOfPeople: sql`
      select m.group_id from people
       ${forEach(sql`select m.group_id from group_memberships m where ${isOf(sql`m.user_id`, sql`people.id`)}`)} m`,
  };
};

const standingOfAgent = standing(aboutAgent);
const rulesOfAgent = rules(aboutAgent);

/** An agent's standing: one statement. */
export const agentAccessStanding = async (db: Db, agent: AgentAndAncestry): Promise<AccessStanding> =>
  standingOf(only(await standingOfAgent(db, agent)));

/** An agent's standing and all that it leads to, read at the same moment: one statement, whatever the nesting. */
export const agentAccessRules = async (db: Db, agent: AgentAndAncestry, known = NOTHING_KNOWN): Promise<AccessRules> =>
  rulesOf(only(await rulesOfAgent(db, { who: agent, known })));
