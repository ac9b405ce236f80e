import { AccessFacts, decisionOn, type Principal } from "@rootstock/hub";
import { silentLog, systemClock } from "@rootstock/service";
import { Database, userAccessFacts } from "@rootstock/store";
import type { Bench } from "../bench.ts";
import type { BenchDatabase } from "../cluster.ts";
import { atMost, type Figure } from "../report.ts";
import { Samples, timed } from "../samples.ts";

const USERS = 10_000;
const GROUPS = 1_000;
const DEPTH = 8;
const POLICIES = 5_000;
const PROJECTS = 200;
/** Groups that each user is in directly, among the innermost. */
const MEMBERSHIPS = 3;
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
  // As in a database that has been there for a while: what was just written would be tidied up by those who read it first.
  await run("vacuum analyze");
};

/** What a decision costs that hangs on groups and policies: with its facts read for it, and with those of a moment before. */
export const access: Bench = async ({ server, quick, say }) => {
  const bench = await server.database();
  say("people, groups, policies");
  await populate(bench);
  const users = await bench.query<{ id: string; email: string }>(
    "select id, email from users order by random() limit 2000",
  );
  const projects = await bench.query<{ id: string }>("select id from projects");
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
    const [cold, warm, floor] = [new Samples(), new Samples(), new Samples()];
    let [policies, groups] = [0, 0];
    const rounds = quick ? 200 : users.length;
    const warmUp = Math.floor(rounds / 10);
    say("decisions");
    for (const [i, { id, email }] of users.slice(0, rounds).entries()) {
      const user: Principal = { kind: "user", id, email, displayName: email, role: "member" };
      const asks = facts.equip(user, () => "10.1.2.3");
      const project = projects[i % projects.length]?.id ?? "";
      const decide = () =>
        decisionOn(asks, "message", {
          kind: "agent",
          id: project,
          projectId: project,
          ownerId: null,
          ancestry: [],
          runtimeBrokerId: null,
          labels: { team: "b" },
        });
      facts.forgetAll();
      const [first, second] = [await timed(decide), await timed(decide)];
      const nothing = await timed(() => userAccessFacts(database.db, NOBODY));
      const { rights } = await facts.of(user);
      policies = Math.max(policies, rights.policies.length);
      groups = Math.max(groups, rights.groups.length);
      if (i < warmUp) continue;
      cold.add(first);
      warm.add(second);
      floor.add(nothing);
    }
    const figure = (name: string, value: number, rest: Partial<Figure> = {}): Figure => ({
      bench: "access",
      name,
      value,
      unit: "ms",
      ...rest,
    });
    const held = (value: number) => ({ target: atMost(value, MOST_MS, `<= ${MOST_MS} ms`) });
    return [
      figure("decision, facts read for it, p50", cold.p50, {
        distribution: cold.distribution(),
        spread: cold.spread(0.5),
      }),
      figure("decision, facts read for it, p99", cold.p99, { ...held(cold.p99), spread: cold.spread(0.99) }),
      figure("decision, facts at hand, p50", warm.p50, { distribution: warm.distribution(), spread: warm.spread(0.5) }),
      figure("decision, facts at hand, p99", warm.p99, { ...held(warm.p99), spread: warm.spread(0.99) }),
      figure("floor: the same question about nobody, p50", floor.p50, { spread: floor.spread(0.5) }),
      figure("floor: the same question about nobody, p99", floor.p99, { spread: floor.spread(0.99) }),
      figure("groups of one person, at most", groups, { unit: "" }),
      figure("policies of one person, at most", policies, { unit: "" }),
    ];
  } finally {
    await database.stop();
    await bench.drop();
  }
};
