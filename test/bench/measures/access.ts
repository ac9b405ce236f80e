import { AccessFacts, decisionOn, type Principal } from "@rootstock/hub";
import { silentLog, systemClock } from "@rootstock/service";
import { Database, userAccessStanding } from "@rootstock/store";
import type { Bench } from "../bench.ts";
import type { BenchDatabase } from "../cluster.ts";
import { atMost, type Figure } from "../report.ts";
import { Samples, timed } from "../samples.ts";

const USERS = 10_000;
const GROUPS = 1_000;
const DEPTH = 8;
const POLICIES = 5_000;
const PROJECTS = 200;
/** Each started by another of the users, and in one of the innermost groups. */
const AGENTS = 2_000;
/** Groups that each user is in directly, among the innermost. */
const MEMBERSHIPS = 3;
/** Of whom so many are asked about, people and agents, so many times; the first times nobody measures. */
const ASKED = 2_000;
const TIMES = 4;
const UNMEASURED = 2;
const MOST_MS = 2;
/** Without groups and policies: what is left is the way to the database and back. */
const NOBODY = "00000000-0000-4000-8000-000000000000";

/**
 * Chains of groups, each inside the next; everybody in three of the innermost and, like everybody, among the hub
 * members; policies of all scopes bound to groups and people; projects that are private.
 */
const populate = async (database: BenchDatabase): Promise<void> => {
  const run = (sql: string, ...values: readonly unknown[]) => database.query(sql, values);
  await run(
    `insert into users (id, email) select gen_random_uuid(), 'u' || n || '@example.org' from generate_series(1, $1::int) n`,
    USERS,
  );
  await run(
    `insert into projects (id, name, slug) select gen_random_uuid(), 'p ' || n, 'p-' || n from generate_series(1, $1::int) n`,
    PROJECTS,
  );
  await run(
    `insert into groups (id, name, slug) select gen_random_uuid(), 'g ' || n, 'bench-' || n from generate_series(0, $1::int - 1) n`,
    GROUPS,
  );
  await run(
    `insert into group_memberships (group_id, child_group_id)
     select o.id, i.id from generate_series(0, $1::int - 1) n
       join groups i on i.slug = 'bench-' || n join groups o on o.slug = 'bench-' || (n + 1)
      where n % $2 <> $2 - 1`,
    GROUPS,
    DEPTH,
  );
  await run(
    `insert into group_memberships (group_id, user_id)
     select g.id, u.id from (select id, row_number() over () as n from users) u
      cross join generate_series(1, $1::int) k
       join groups g on g.slug = 'bench-' || ((u.n * 7 + k * 31) % ($2::int / $3::int)) * $3::int
     on conflict do nothing`,
    MEMBERSHIPS,
    GROUPS,
    DEPTH,
  );
  await run(
    `insert into policies (id, name, scope_type, scope_id, resource_type, actions, effect, priority, conditions)
     select gen_random_uuid(), 'bench ' || n,
         case when n % 3 = 0 then 'hub' else 'project' end,
         case when n % 3 <> 0 then p.id end,
         (array['agent', 'template', '*'])[1 + n % 3],
         case when n % 2 = 0 then array['update', 'start'] else array['delete', 'message'] end,
         case when n % 7 = 0 then 'deny' else 'allow' end, n % 5,
         case when n % 4 = 0 then '{"labels": {"team": "a"}, "sourceIps": ["10.0.0.0/8"]}'::jsonb else '{}' end
       from generate_series(1, $1::int) n
       join (select id, row_number() over () as i from projects) p on p.i = 1 + n % $2`,
    POLICIES,
    PROJECTS,
  );
  await run(
    `insert into policy_bindings (policy_id, group_id)
     select p.id, g.id from (select id, row_number() over () as n from policies where name like 'bench %') p
       join groups g on g.slug = 'bench-' || (p.n % $1) where p.n % 5 <> 0`,
    GROUPS,
  );
  await run(
    `insert into policy_bindings (policy_id, user_id)
     select p.id, u.id from (select id, row_number() over () as n from policies where name like 'bench %') p
       join (select id, row_number() over () as n from users) u on u.n = p.n where p.n % 5 = 0`,
  );
  await run(
    `insert into agents (id, project_id, slug, name, ancestry)
     select gen_random_uuid(), p.id, 'a-' || n, 'a-' || n, array[u.id]
       from generate_series(1, $1::int) n
       join (select id, row_number() over () as i from projects) p on p.i = 1 + n % $2
       join (select id, row_number() over () as i from users) u on u.i = n`,
    AGENTS,
    PROJECTS,
  );
  await run(
    `insert into group_memberships (group_id, agent_id)
     select g.id, a.id from (select id, row_number() over () as n from agents) a
       join groups g on g.slug = 'bench-' || (a.n % ($1::int / $2::int)) * $2::int`,
    GROUPS,
    DEPTH,
  );
  // As in a database that has been there for a while: what was just written would be tidied up by those who read it first.
  await run("vacuum analyze");
  await run("checkpoint");
};

interface Asked {
  readonly principal: Principal;
  /** The project of the agent that it wants to do something with. */
  readonly projectId: string;
}

/**
 * What a decision costs that hangs on groups and policies: with its facts read for it, with those of a moment before, and
 * at a replica that knows no group and no policy yet.
 */
export const access: Bench = async ({ server, quick, say }) => {
  const bench = await server.database();
  say("people, groups, policies");
  await populate(bench);
  const users = await bench.query<{ id: string; email: string }>(
    "select id, email from users order by random() limit $1",
    [ASKED],
  );
  const projects = await bench.query<{ id: string }>("select id from projects");
  const agents = await bench.query<{ id: string; projectId: string; ancestry: string[] }>(
    `select id, project_id as "projectId", ancestry from agents order by random() limit $1`,
    [ASKED],
  );
  const database = new Database({
    url: bench.url,
    pooled: false,
    poolSize: 2,
    applicationName: "bench",
    clock: systemClock,
    log: silentLog(),
  });
  await database.start();
  try {
    const facts = new AccessFacts(systemClock, database.db);
    const rounds = quick ? 200 : ASKED;
    const decide = (known: AccessFacts, action: "message" | "update", { principal, projectId }: Asked) =>
      decisionOn(
        known.equip(principal, () => "10.1.2.3"),
        action,
        {
          kind: "agent",
          id: projectId,
          projectId,
          ownerId: null,
          ancestry: [],
          runtimeBrokerId: null,
          labels: { team: "b" },
        },
      );
    /**
     * Times two decisions of each, the first with nothing at hand of whom it is about, at a replica that has been there for
     * a moment: its code is compiled, the groups are known. Then one of each at a replica that has met no group. One kind
     * after the other: they would warm each other.
     */
    const decisions = async (action: "message" | "update", asked: readonly Asked[]) => {
      const [cold, warm, first] = [new Samples(), new Samples(), new Samples()];
      const most = { groups: 0, policies: 0 };
      for (let time = 0; time < TIMES; time += 1)
        for (const one of asked.slice(0, rounds)) {
          facts.forgetAll();
          const again = () => decide(facts, action, one);
          const [anew, atHand] = [await timed(again), await timed(again)];
          const { rights } = await facts.of(one.principal);
          most.policies = Math.max(most.policies, rights.policies.length);
          most.groups = Math.max(most.groups, rights.groups.length);
          if (time < UNMEASURED) continue;
          cold.add(anew);
          warm.add(atHand);
        }
      for (let time = 0; time < TIMES; time += 1)
        for (const one of asked.slice(0, rounds / 4)) {
          const nothing = new AccessFacts(systemClock, database.db);
          const unknown = await timed(() => decide(nothing, action, one));
          if (time >= UNMEASURED) first.add(unknown);
        }
      return { cold, warm, first, most };
    };
    say("decisions");
    const ofPeople = await decisions(
      "message",
      users.map(({ id, email }, i) => ({
        principal: { kind: "user", id, email, displayName: email, role: "member" },
        projectId: projects[i % projects.length]?.id ?? "",
      })),
    );
    const ofAgents = await decisions(
      "update",
      agents.map(({ id, projectId, ancestry }) => ({
        principal: { kind: "agent", id, projectId, scopes: [], ancestry },
        projectId,
      })),
    );
    const floor = new Samples();
    for (let i = 0; i < rounds; i += 1) floor.add(await timed(() => userAccessStanding(database.db, NOBODY)));
    const figure = (name: string, value: number, rest: Partial<Figure> = {}): Figure => ({
      bench: "access",
      name,
      value,
      unit: "ms",
      ...rest,
    });
    const held = (value: number) => ({ target: atMost(value, MOST_MS, `<= ${MOST_MS} ms`) });
    const spreads = (name: string, of: Samples, p99: Partial<Figure>): Figure[] => [
      figure(`${name}, p50`, of.p50, { distribution: of.distribution(), spread: of.spread(0.5) }),
      figure(`${name}, p99`, of.p99, { ...p99, spread: of.spread(0.99) }),
    ];
    return [
      ...spreads("decision, facts read for it", ofPeople.cold, held(ofPeople.cold.p99)),
      ...spreads("decision, facts at hand", ofPeople.warm, held(ofPeople.warm.p99)),
      ...spreads("decision of an agent, facts read for it", ofAgents.cold, held(ofAgents.cold.p99)),
      ...spreads("decision, the first of a replica", ofPeople.first, {}),
      ...spreads("decision of an agent, the first of a replica", ofAgents.first, {}),
      ...spreads("floor: the same question about nobody", floor, {}),
      figure("groups of one person, at most", ofPeople.most.groups, { unit: "" }),
      figure("policies of one person, at most", ofPeople.most.policies, { unit: "" }),
      figure("policies of one agent, at most", ofAgents.most.policies, { unit: "" }),
    ];
  } finally {
    await database.stop();
    await bench.drop();
  }
};
