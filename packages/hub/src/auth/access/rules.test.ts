import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { systemClock, systemRandom } from "@rootstock/service";
import { type Db, userAccessRules } from "@rootstock/store";
import { createTestStore, type TestStore } from "@rootstock/testkit";
import type { AgentPrincipal, UserPrincipal } from "../principal.ts";
import { AccessFacts } from "./accessFacts.ts";
import type { Rights } from "./facts.ts";
import { Rules } from "./rules.ts";

/** What is kept of groups and policies gives the rights that a look at the database would, whatever has changed. */

let store: TestStore;

beforeAll(async () => {
  store = await createTestStore({ poolSize: 12 });
});
afterAll(() => store.drop());

const uuid = () => systemRandom.uuid();
const pick = <T>(from: readonly T[]): T => {
  const found = from[systemRandom.bytes(4).readUInt32BE() % from.length];
  if (found === undefined) throw new Error("nothing to pick from");
  return found;
};
const times = <T>(n: number, make: (i: number) => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: n }, (_, i) => make(i)));

/** Counts the statements that go through it. */
const counting = (db: Db) => {
  const counted = { n: 0 };
  const through = db.withPlugin({
    transformQuery: ({ node }) => node,
    transformResult: async ({ result }) => {
      counted.n += 1;
      return result;
    },
  });
  return { db: through, counted };
};

interface World {
  readonly principals: readonly (UserPrincipal | AgentPrincipal)[];
  readonly users: readonly string[];
  readonly groups: string[];
  readonly policies: string[];
  readonly agents: readonly string[];
  readonly projects: readonly string[];
}

const newGroup = async (): Promise<string> => {
  const id = uuid();
  await store.query("insert into groups (id, name, slug) values ($1, 'g', $2)", [id, `g-${id}`]);
  return id;
};
const conditionsAbout = ({ users, groups, agents }: Pick<World, "users" | "groups" | "agents">) => {
  // The database takes an id in either case.
  const user = pick([(id: string) => id, (id: string) => id.toUpperCase()])(pick(users));
  return pick<object>([
    {},
    {},
    { labels: { a: "1" } },
    { delegatedFrom: { principalType: "user", principalId: user } },
    { delegatedFrom: { principalType: "agent", principalId: pick(agents) } },
    { delegatedFromGroup: pick(groups) },
  ]);
};
const newPolicy = async (about: Pick<World, "users" | "groups" | "agents">): Promise<string> => {
  const id = uuid();
  await store.query(
    `insert into policies (id, name, scope_type, actions, effect, priority, conditions)
     values ($1, 'p', 'hub', '{update}', 'allow', $2, $3)`,
    [id, pick([0, 1]), JSON.stringify(conditionsAbout(about))],
  );
  return id;
};

const join = (group: string, column: string, id: string, role = "member") =>
  store.query(`insert into group_memberships (group_id, ${column}, role) values ($1, $2, $3) on conflict do nothing`, [
    group,
    id,
    role,
  ]);
const bind = (policy: string, column: string, id: string) =>
  store.query(`insert into policy_bindings (policy_id, ${column}) values ($1, $2) on conflict do nothing`, [
    policy,
    id,
  ]);

const makeWorld = async (): Promise<World> => {
  const users = await times(4, async () => {
    const id = uuid();
    await store.query("insert into users (id, email) values ($1, $2)", [id, `${id}@example.org`]);
    return id;
  });
  const projects = await times(2, async () => {
    const id = uuid();
    await store.query("insert into projects (id, name, slug, owner_id) values ($1, 'p', $2, $3)", [
      id,
      `p-${id}`,
      pick(users),
    ]);
    return id;
  });
  const agents: string[] = [];
  const principals: (UserPrincipal | AgentPrincipal)[] = users.map((id) => ({
    ...{ kind: "user", id, email: id, displayName: id, role: "member" },
  }));
  for (const [i, project] of [...projects, ...projects].entries()) {
    const id = uuid();
    await store.query("insert into agents (id, name, slug, project_id) values ($1, 'a', $2, $3)", [
      id,
      `a-${id}`,
      project,
    ]);
    principals.push({
      kind: "agent",
      id,
      projectId: project,
      scopes: [],
      ancestry: [pick(users), ...agents.slice(0, i)],
    });
    agents.push(id);
  }
  const groups = await times(6, newGroup);
  const policies = await times(12, () => newPolicy({ users, groups, agents }));
  // Everybody is in some, most are in others, and most have policies: nearly every change is one of somebody's rights.
  const member = (column: string, id: string) => join(pick(groups), column, id);
  await Promise.all([...users, ...users].map((id) => member("user_id", id)));
  await Promise.all(agents.map((id) => member("agent_id", id)));
  for (const group of groups) await join(pick(groups), "child_group_id", group).catch(() => {});
  await Promise.all(policies.map((id) => bind(id, "group_id", pick(groups))));
  return { principals, users, groups, policies, agents, projects };
};

/** One change, of any kind, of what decides. What cannot be (a circle, a row that is there) changes nothing. */
const change = async (world: World): Promise<void> => {
  const { users, groups, policies, agents, projects } = world;
  const run = (sql: string, ...values: unknown[]) => store.query(sql, values);
  const member = () => pick([`user_id`, `agent_id`]);
  const who = (column: string) => pick(column === "user_id" ? users : agents);
  const [joining, binding] = [member(), pick(["user_id", "agent_id", "group_id", "group_id"])];
  await pick<() => Promise<unknown>>([
    () => join(pick(groups), joining, who(joining), pick(["member", "admin"])),
    () => run(`delete from group_memberships where group_id = $1 and ${joining} = $2`, pick(groups), who(joining)),
    () => join(pick(groups), "child_group_id", pick(groups)).catch(() => {}),
    () => run("delete from group_memberships where child_group_id = $1", pick(groups)),
    () =>
      run(
        "update group_memberships set group_id = $1 where id = (select id from group_memberships where child_group_id is not null limit 1)",
        pick(groups),
      ).catch(() => {}),
    () => bind(pick(policies), binding, binding === "group_id" ? pick(groups) : who(binding)),
    () => run(`delete from policy_bindings where policy_id = $1 and ${binding} is not null`, pick(policies)),
    () => run("update policies set priority = priority + 1 where id = $1", pick(policies)),
    () =>
      run("update policies set conditions = $2 where id = $1", pick(policies), JSON.stringify(conditionsAbout(world))),
    () => run("update groups set slug = $2 where id = $1", pick(groups), `renamed-${uuid()}`),
    () => run("update projects set slug = $2 where id = $1", pick(projects), `renamed-${uuid()}`),
    () => run("update users set status = $2 where id = $1", pick(users), pick(["active", "suspended"])),
    async () => {
      const [at, made] = [groups.indexOf(pick(groups)), await newGroup()];
      await run("delete from groups where id = $1", groups[at]);
      groups[at] = made;
    },
    async () => {
      const [at, made] = [policies.indexOf(pick(policies)), await newPolicy(world)];
      await run("delete from policies where id = $1", policies[at]);
      policies[at] = made;
    },
  ])();
};

const plain = ({ groups, managed, joined, policies, stamp }: Rights) => ({
  groups,
  policies: policies.map((p) => ({ id: p.id, priority: p.priority, conditions: p.conditions })),
  managed: [...managed].sort(),
  joined: [...joined].sort(),
  stamp,
});

test("whoever has kept groups and policies knows the same rights as whoever reads them anew, after any change", async () => {
  const { db, counted } = counting(store.db);
  const kept = new AccessFacts(systemClock, db);
  const asked = { once: 0, twice: 0 };
  let delegated = 0;
  for (let round = 0; round < 3; round += 1) {
    const world = await makeWorld();
    for (let step = 0; step < 60; step += 1) {
      await change(world);
      kept.forgetAll();
      for (const principal of world.principals) {
        const before = counted.n;
        const { rights } = await kept.of(principal);
        asked[counted.n - before === 1 ? "once" : "twice"] += 1;
        expect(counted.n - before).toBeLessThanOrEqual(2);
        expect(plain(rights)).toEqual(plain((await new AccessFacts(systemClock, store.db).of(principal)).rights));
        delegated += rights.policies.filter((p) => p.delegated).length;
      }
    }
  }
  expect(asked.once).toBeGreaterThan(100);
  expect(asked.twice).toBeGreaterThan(100);
  expect(delegated).toBeGreaterThan(20);
});

test("each kind of change is seen by whoever has kept what it changes", async () => {
  const user = uuid();
  await store.query("insert into users (id, email) values ($1, $2)", [user, `${user}@example.org`]);
  const project = uuid();
  await store.query("insert into projects (id, name, slug) values ($1, 'p', $2)", [project, `p-${project}`]);
  const agent = uuid();
  await store.query("insert into agents (id, name, slug, project_id) values ($1, 'a', 'a', $2)", [agent, project]);
  const [inner, outer, other] = [await newGroup(), await newGroup(), await newGroup()];
  await join(inner, "user_id", user);
  const policy = async (conditions: object = {}): Promise<string> => {
    const id = uuid();
    await store.query(
      "insert into policies (id, name, scope_type, actions, effect, conditions) values ($1, 'p', 'hub', '{update}', 'allow', $2)",
      [id, JSON.stringify(conditions)],
    );
    return id;
  };
  const [ofInner, ofOuter, ofOther] = [await policy(), await policy(), await policy()];
  await bind(ofOuter, "group_id", outer);
  await bind(ofOther, "group_id", other);
  let delegated = "";
  const run = (sql: string, ...values: unknown[]) => store.query(sql, values);
  const changes: Readonly<Record<string, () => Promise<unknown>>> = {
    "a policy is bound": () => bind(ofInner, "group_id", inner),
    "a group is put into another": () => join(outer, "child_group_id", inner),
    "a policy is changed": () => run("update policies set priority = 7 where id = $1", ofInner),
    "a group has another name": () => run("update groups set slug = $2 where id = $1", outer, `renamed-${outer}`),
    "a group is moved into another": () =>
      run("update group_memberships set group_id = $1 where child_group_id = $2", other, inner),
    "a policy is unbound": () =>
      run("delete from policy_bindings where policy_id = $1 and group_id = $2", ofInner, inner),
    "agents may act for a group": async () => {
      delegated = await policy({ delegatedFromGroup: other });
    },
    "that is bound to somebody else": () => bind(delegated, "user_id", user),
    "a group is taken out of another": () => run("delete from group_memberships where child_group_id = $1", inner),
    "it is put back": () => join(other, "child_group_id", inner),
    "a policy is deleted": () => run("delete from policies where id = $1", ofOther),
    "a group is deleted": () => run("delete from groups where id = $1", other),
  };
  const kept = new AccessFacts(systemClock, store.db);
  const both = async (facts: AccessFacts) => {
    facts.forgetAll();
    const person = await facts.of({ kind: "user", id: user, email: "", displayName: "", role: "member" });
    const acting = await facts.of({ kind: "agent", id: agent, projectId: project, scopes: [], ancestry: [user] });
    return [plain(person.rights), plain(acting.rights)];
  };
  for (const [name, make] of Object.entries(changes)) {
    const before = await both(kept);
    await make();
    const after = await both(kept);
    expect([name, after]).toEqual([name, await both(new AccessFacts(systemClock, store.db))]);
    expect([name, after]).not.toEqual([name, before]);
  }
});

describe("changes that overlap", () => {
  const person = async (...policies: readonly string[]): Promise<UserPrincipal> => {
    const [id, group] = [uuid(), await newGroup()];
    await store.query("insert into users (id, email) values ($1, $2)", [id, `${id}@example.org`]);
    await store.query("insert into group_memberships (group_id, user_id) values ($1, $2)", [group, id]);
    for (const policy of policies)
      await store.query("insert into policy_bindings (policy_id, group_id) values ($1, $2)", [policy, group]);
    return { kind: "user", id, email: id, displayName: id, role: "member" };
  };
  const nothing = { users: [uuid()], groups: [uuid()], agents: [uuid()] };
  const newPolicies = (n: number) => times(n, () => newPolicy(nothing));

  test("what is read between the ends of two transactions is not believed after the second", async () => {
    const policies = await newPolicies(2);
    await store.query("update policies set conditions = '{}', priority = 0 where id = any($1)", [policies]);
    const user = await person(...policies);
    const kept = new AccessFacts(systemClock, store.db);
    const priorities = async () => {
      kept.forgetAll();
      return (await kept.of(user)).rights.policies.map((p) => p.priority).filter((priority) => priority !== 0);
    };
    expect(await priorities()).toEqual([]);
    const ends: (() => void)[] = [];
    const begin = (policy: string | undefined, priority: number) => {
      const ended = new Promise<void>((resolve) => {
        ends.push(resolve);
      });
      let changed = () => {};
      const begun = new Promise<void>((resolve) => {
        changed = resolve;
      });
      const done = store.db.transaction().execute(async (tx) => {
        await tx
          .updateTable("policies")
          .set({ priority })
          .where("id", "=", policy ?? "")
          .execute();
        changed();
        await ended;
      });
      return { begun, done };
    };
    const [first, second] = [begin(policies[0], 5), begin(policies[1], 7)];
    await Promise.all([first.begun, second.begun]);
    expect(await priorities()).toEqual([]);
    ends[1]?.();
    await second.done;
    expect(await priorities()).toEqual([7]);
    ends[0]?.();
    await first.done;
    expect(await priorities()).toEqual([7, 5]);
  });

  test("many that end at once all end, and none waits for another for good", async () => {
    const policies = await newPolicies(8);
    const user = await person(...policies);
    await Promise.all(
      policies.map((id, i) =>
        store.db.transaction().execute(async (tx) => {
          await tx
            .updateTable("policies")
            .set({ conditions: "{}", priority: 10 + i })
            .where("id", "=", id)
            .execute();
          await tx
            .insertInto("groups")
            .values({ id: uuid(), name: "g", slug: `at-once-${id}` })
            .execute();
          await tx.updateTable("groups").set({ name: "h" }).where("slug", "=", `at-once-${id}`).execute();
        }),
      ),
    );
    const { rights } = await new AccessFacts(systemClock, store.db).of(user);
    const told = rights.policies.filter((p) => policies.includes(p.id)).map((p) => p.priority);
    expect(told).toEqual([17, 16, 15, 14, 13, 12, 11, 10]);
  });

  test("an answer that comes late, of an older version, is not taken for the newer", async () => {
    const [policy] = await newPolicies(1);
    const user = await person(policy ?? "");
    const older = await userAccessRules(store.db, user.id);
    await store.query("update policies set conditions = '{}', priority = 9 where id = $1", [policy]);
    const newer = await userAccessRules(store.db, user.id);
    const rules = new Rules(older.standing.version);
    rules.learn(older);
    expect(rules.rightsOf(newer.standing)).toBeUndefined();
    expect(rules.knownOf(newer.standing).groups).toEqual([]);
    expect(rules.rightsOf(older.standing)?.policies.find((p) => p.id === policy)?.priority).not.toBe(9);
  });

  test("a version that changes between both questions: everything is told, and what was known is not mixed in", async () => {
    const policies = await newPolicies(3);
    await store.query("update policies set conditions = '{}', priority = 1 where id = any($1)", [policies]);
    const user = await person(...policies.slice(0, 1));
    const [group] = await store.query<{ id: string }>(
      "select group_id as id from group_memberships m join groups g on g.id = m.group_id where user_id = $1 and slug <> 'hub-members'",
      [user.id],
    );
    let between = async () => {};
    const facts = new AccessFacts(
      systemClock,
      store.db.withPlugin({
        transformQuery: ({ node }) => node,
        transformResult: async ({ result }) => {
          const now = between;
          between = async () => {};
          await now();
          return result;
        },
      }),
    );
    const priorities = async () => {
      facts.forgetAll();
      const { rights } = await facts.of(user);
      return rights.policies.filter((p) => policies.includes(p.id)).map((p) => p.priority);
    };
    expect(await priorities()).toEqual([1]);
    // Now the group is known. One more is not, so that there is a second question; before it, the known one changes.
    const other = await newGroup();
    await store.query("insert into group_memberships (group_id, user_id) values ($1, $2)", [other, user.id]);
    between = async () => {
      await store.query("update policies set priority = 4 where id = $1", [policies[0]]);
      await store.query("insert into policy_bindings (policy_id, group_id) values ($1, $2)", [policies[1], group?.id]);
      await store.query("insert into policy_bindings (policy_id, group_id) values ($1, $2)", [policies[2], other]);
    };
    expect(await priorities()).toEqual([4, 1, 1]);
    expect(await priorities()).toEqual([4, 1, 1]);
  });
});

test("what is kept is bounded: what is too much is forgotten, and whoever asks is told all the same", async () => {
  const world = await makeWorld();
  for (let i = 0; i < 40; i += 1) await change(world);
  const { db, counted } = counting(store.db);
  const [small, large] = [new AccessFacts(systemClock, db, 10), new AccessFacts(systemClock, store.db)];
  for (let round = 0; round < 2; round += 1) {
    small.forgetAll();
    for (const principal of world.principals)
      expect(plain((await small.of(principal)).rights)).toEqual(plain((await large.of(principal)).rights));
  }
  // Nearly each was told again what had been forgotten.
  expect(counted.n).toBeGreaterThan(2 * world.principals.length);
});
