import { afterAll, beforeAll, beforeEach, expect, test } from "@jest/globals";
import { systemClock, systemRandom } from "@rootstock/service";
import { agentById, countAgents, countProjects, listAgents, listProjects, projectRow } from "@rootstock/store";
import { createTestStore, type TestStore } from "@rootstock/testkit";
import type { AgentPrincipal, UserPrincipal } from "../principal.ts";
import { AccessFacts } from "./accessFacts.ts";
import { decide } from "./decide.ts";
import { readScope } from "./readScope.ts";
import type { AgentResource, ProjectResource } from "./resource.ts";

/** What groups and policies give, as the database tells it: memberships at any depth, bindings, delegation, lists. */

let store: TestStore;
let access: AccessFacts;

beforeAll(async () => {
  store = await createTestStore();
});
afterAll(() => store.drop());
beforeEach(() => {
  access = new AccessFacts(systemClock, store.db);
});

const row = async (table: string, values: Readonly<Record<string, unknown>>): Promise<string> => {
  const id = systemRandom.uuid();
  const all: Record<string, unknown> = { id, ...values };
  const columns = Object.keys(all);
  await store.query(
    `insert into ${table} (${columns.join(", ")}) values (${columns.map((_, i) => `$${i + 1}`).join(", ")})`,
    Object.values(all),
  );
  return id;
};
let named = 0;
const name = (what: string): string => {
  named += 1;
  return `${what}-${named}`;
};
const newUser = async (over: object = {}): Promise<UserPrincipal> => {
  const email = `${name("u")}@example.org`;
  const id = await row("users", { email, ...over });
  return { kind: "user", id, email, displayName: email, role: "member" };
};
const newGroup = (over: object = {}) => {
  const slug = name("g");
  return row("groups", { name: slug, slug, ...over });
};
const join = (group: string, member: object) => row("group_memberships", { group_id: group, ...member });
const newPolicy = (over: object = {}) =>
  row("policies", { name: name("p"), scope_type: "hub", actions: ["update"], effect: "allow", ...over });
const bind = (policy: string, to: object) => row("policy_bindings", { policy_id: policy, ...to });
const newProject = (over: object = {}) => {
  const slug = name("project");
  return row("projects", { name: slug, slug, ...over });
};
const newAgent = (project: string, over: object = {}) => {
  const slug = name("agent");
  return row("agents", { name: slug, slug, project_id: project, ...over });
};
const asAgent = (id: string, projectId: string, ...ancestry: string[]): AgentPrincipal => ({
  kind: "agent",
  id,
  projectId,
  scopes: [],
  ancestry,
});
const policiesOf = async (principal: UserPrincipal | AgentPrincipal): Promise<string[]> =>
  (await access.of(principal)).rights.policies.map((p) => p.id);
const groupIn = async (project: string, type = "members"): Promise<string> => {
  const [found] = await store.query<{ id: string }>("select id from groups where project_id = $1 and slug like $2", [
    project,
    `%:${type}`,
  ]);
  if (!found) throw new Error("the project has no such group");
  return found.id;
};

test("a policy reaches whoever is in a group that is in a group that it is bound to, and nobody else", async () => {
  const [inside, outside] = [await newUser(), await newUser()];
  let group = await newGroup();
  await join(group, { user_id: inside.id });
  for (let depth = 0; depth < 8; depth += 1) {
    const outer = await newGroup();
    await join(outer, { child_group_id: group });
    group = outer;
  }
  const policy = await newPolicy();
  await bind(policy, { group_id: group });
  expect(await policiesOf(inside)).toContain(policy);
  expect(await policiesOf(outside)).not.toContain(policy);
});

test("who runs a project is a direct owner or admin of its group; whoever is in it through another group is a member", async () => {
  const project = await newProject();
  const members = await groupIn(project);
  const [owner, admin, plain, nested] = [await newUser(), await newUser(), await newUser(), await newUser()];
  await join(members, { user_id: owner.id, role: "owner" });
  await join(members, { user_id: admin.id, role: "admin" });
  await join(members, { user_id: plain.id });
  const team = await newGroup();
  await join(team, { user_id: nested.id, role: "owner" });
  await join(members, { child_group_id: team });
  const roles = async (user: UserPrincipal) => {
    const { managed, joined } = (await access.of(user)).rights;
    return [managed.has(project), joined.has(project)];
  };
  expect(await roles(owner)).toEqual([true, true]);
  expect(await roles(admin)).toEqual([true, true]);
  expect(await roles(plain)).toEqual([false, true]);
  expect(await roles(nested)).toEqual([false, true]);
  expect(await roles(await newUser())).toEqual([false, false]);
});

test("an agent is reached by policies bound to it, to its groups, and to the agents of its project", async () => {
  const project = await newProject();
  const id = await newAgent(project);
  const group = await newGroup();
  await join(group, { agent_id: id });
  const [own, ofGroup, ofAll, ofOthers] = await Promise.all([newPolicy(), newPolicy(), newPolicy(), newPolicy()]);
  await bind(own, { agent_id: id });
  await bind(ofGroup, { group_id: group });
  await bind(ofAll, { group_id: await groupIn(project, "agents") });
  await bind(ofOthers, { agent_id: await newAgent(project) });
  expect((await policiesOf(asAgent(id, project))).sort()).toEqual([own, ofGroup, ofAll].sort());
});

test("weak point 18: delegation looks at who started the agent, at bindings, and at whether they are still there", async () => {
  const project = await newProject();
  const [root, stranger] = [await newUser(), await newUser()];
  const id = await newAgent(project);
  const agent = asAgent(id, project, root.id);
  const from = (user: UserPrincipal) =>
    newPolicy({ conditions: { delegatedFrom: { principalType: "user", principalId: user.id } } });
  const [given, others, boundElsewhere, boundHere] = [
    await from(root),
    await from(stranger),
    await from(root),
    await from(root),
  ];
  await bind(boundElsewhere, { agent_id: await newAgent(project) });
  await bind(boundHere, { agent_id: id });
  const team = await newGroup();
  await join(team, { user_id: root.id });
  const outer = await newGroup();
  await join(outer, { child_group_id: team });
  const ofGroup = await newPolicy({ conditions: { delegatedFromGroup: outer } });
  const ofOtherGroup = await newPolicy({ conditions: { delegatedFromGroup: await newGroup() } });
  // Bound to the agent, and for whom it does not act: it reaches nobody.
  const bothWays = await from(stranger);
  await bind(bothWays, { agent_id: id });
  const reached = await policiesOf(agent);
  expect(reached.sort()).toEqual([given, boundHere, ofGroup].sort());
  expect(reached).not.toContain(others);
  expect(reached).not.toContain(ofOtherGroup);
  // No person is reached by what is for whom an agent acts for.
  await bind(given, { user_id: root.id });
  expect(await policiesOf(root)).not.toContain(given);
  await store.query("update users set status = 'suspended' where id = $1", [root.id]);
  access.forgetAll();
  expect(await policiesOf(agent)).toEqual([]);
});

test("what was read is believed for 2 s at most, and not at all once it is told to have changed", async () => {
  let now = 0;
  const clock = { ...systemClock, elapsed: () => now };
  const facts = new AccessFacts(clock, store.db);
  const user = await newUser();
  const policies = async () => (await facts.of(user)).rights.policies.length;
  const before = await policies();
  await bind(await newPolicy(), { user_id: user.id });
  expect(await policies()).toBe(before);
  now = 2_000;
  expect(await policies()).toBe(before + 1);
  await bind(await newPolicy(), { user_id: user.id });
  facts.forgetAll();
  expect(await policies()).toBe(before + 2);
});

/** A small world in which everything overlaps with everything, different each time. */
const makeWorld = async () => {
  const pick = <T>(from: readonly T[]): T => {
    const found = from[systemRandom.bytes(4).readUInt32BE() % from.length];
    if (found === undefined) throw new Error("nothing to pick from");
    return found;
  };
  const visibilities = ["private", "team", "public"];
  const labels = [{}, { a: "1" }, { a: "1", b: "2" }, { b: "2" }];
  const users = await Promise.all(Array.from({ length: 6 }, () => newUser()));
  const projects: string[] = [];
  const agents: string[] = [];
  for (let i = 0; i < 10; i += 1)
    projects.push(
      await newProject({
        owner_id: pick(users).id,
        visibility: pick(visibilities),
        labels: JSON.stringify(pick(labels)),
      }),
    );
  for (let i = 0; i < 40; i += 1) {
    const owner = pick(users).id;
    const over = { owner_id: owner, ancestry: [pick(users).id, owner], labels: JSON.stringify(pick(labels)) };
    agents.push(await newAgent(pick(projects), { ...over, visibility: pick(visibilities) }));
  }
  for (let i = 0; i < 6; i += 1)
    await join(await groupIn(pick(projects)), { user_id: pick(users).id, role: pick(["member", "admin"]) }).catch(
      () => {},
    );
  for (let i = 0; i < 25; i += 1) {
    const scope = pick(["hub", "project", "resource"]);
    const policy = await newPolicy({
      scope_type: scope,
      scope_id: scope === "hub" ? null : scope === "project" ? pick(projects) : pick([...projects, ...agents]),
      resource_type: pick(["*", "agent", "project", "template"]),
      resource_id: pick([null, null, null, pick(agents), pick(projects)]),
      actions: pick([["read"], ["*"], ["update"], ["read", "list"]]),
      effect: pick(["allow", "allow", "deny"]),
      priority: pick([0, 0, 1]),
      conditions: JSON.stringify(
        pick([
          {},
          { labels: { a: "1" } },
          { visibility: ["team"] },
          { visibility: ["private"] },
          { validUntil: "2020-01-01T00:00:00Z" },
        ]),
      ),
    });
    await bind(policy, { user_id: pick(users).id });
  }
  return { users, projects, agents };
};

test("lists show exactly what the decision lets be read, with true counts, whatever the policies", async () => {
  let shown = 0;
  for (let round = 0; round < 2; round += 1) {
    const { users, projects, agents } = await makeWorld();
    const projectRows = await Promise.all(projects.map((id) => projectRow(store.db, id)));
    const agentViews = await Promise.all(agents.map((id) => agentById(store.db, id)));
    const projectResources = projectRows.flatMap((p): ProjectResource[] =>
      p ? [{ kind: "project", id: p.id, ownerId: p.owner_id, visibility: p.visibility, labels: p.labels }] : [],
    );
    const agentResources = agentViews.flatMap((a): AgentResource[] =>
      a
        ? [
            {
              kind: "agent",
              id: a.id,
              projectId: a.project_id,
              ownerId: a.owner_id,
              // The lists look for people at the root of ancestries alone: people are started by nobody.
              ancestry: a.ancestry.slice(0, 1),
              runtimeBrokerId: null,
              labels: a.labels,
              visibility: a.visibility,
              projectOwnerId: a.project_owner_id,
              projectVisibility: a.project_visibility,
            },
          ]
        : [],
    );
    expect([projectResources.length, agentResources.length]).toEqual([projects.length, agents.length]);
    for (const user of users) {
      const facts = await access.of(user);
      const readable = (resources: readonly (ProjectResource | AgentResource)[]) =>
        resources.filter((r) => decide(user, "read", r, facts).allow).map((r) => r.id);
      const projectIds = readable(projectResources);
      const agentIds = readable(agentResources);
      const mine = new Set([...projects, ...agents]);
      const only = (rows: readonly { readonly id: string }[]) =>
        rows
          .map((r) => r.id)
          .filter((id) => mine.has(id))
          .sort();
      const projectScope = { scope: readScope(user, "projects", facts) };
      const agentScope = { scope: readScope(user, "agents", facts) };
      const listedProjects = await listProjects(store.db, projectScope, { limit: 500 });
      const listedAgents = await listAgents(store.db, agentScope, { limit: 500 });
      expect(only(listedProjects)).toEqual(projectIds.sort());
      expect(only(listedAgents)).toEqual(agentIds.sort());
      expect(await countProjects(store.db, projectScope)).toBe(listedProjects.length);
      expect((await countAgents(store.db, agentScope, 500)).total).toBe(listedAgents.length);
      shown += listedAgents.length;
    }
  }
  expect(shown).toBeGreaterThan(20);
});
