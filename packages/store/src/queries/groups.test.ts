import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import { createTestStore, seed, type TestStore } from "@rootstock/testkit";
import { transaction } from "../tx.ts";
import {
  addGroupMember,
  changeGroupMemberRole,
  effectiveGroups,
  findGroupMember,
  groupBySlug,
  insertGroup,
  isFoundGroup,
  isGroupCircle,
  listGroupMembers,
  listGroups,
  removeGroupMember,
} from "./groups.ts";
import { bindPolicy, insertPolicy, listPolicies, policyBindings } from "./policies.ts";
import { changeProject, insertProject } from "./projects.ts";
import { deleteProject } from "./removals.ts";

let store: TestStore;

beforeAll(async () => {
  store = await createTestStore({ poolSize: 8 });
});
afterAll(() => store.drop());

const newUser = async (name: string): Promise<string> => {
  const id = systemRandom.uuid();
  await store.query("insert into users (id, email) values ($1, $2)", [id, `${name}@example.org`]);
  return id;
};
const newGroup = async (slug: string): Promise<string> => {
  const made = await insertGroup(store.db, { id: systemRandom.uuid(), name: slug, slug });
  if (!made) throw new Error(`${slug} is taken`);
  return made.id;
};
const nest = (groupId: string, memberId: string) =>
  addGroupMember(store.db, { groupId, memberType: "group", memberId, role: "member", addedBy: null });
const newProject = async (slug: string, owner: string | null): Promise<string> => {
  const id = systemRandom.uuid();
  await insertProject(store.db, { id, name: slug, slug, owner_id: owner, created_by: owner });
  return id;
};
const slugsOf = async (type: "user" | "agent", id: string): Promise<string[]> =>
  (await effectiveGroups(store.db, { type, id })).map((g) => g.slug).sort();

test("whoever gets an account is a hub member, once, and may be taken out", async () => {
  const id = await newUser("ann");
  expect(await slugsOf("user", id)).toEqual(["hub-members"]);
  await store.query("delete from group_memberships where user_id = $1", [id]);
  await store.query("update users set last_login = now() where id = $1", [id]);
  expect(await slugsOf("user", id)).toEqual([]);
});

test("a project comes with its groups and its policy, which follow its slug and go with it", async () => {
  const owner = await newUser("bea");
  const id = await newProject("garden", owner);
  const groups = async () => (await listGroups(store.db, { projectId: id }, { limit: 10 })).map((g) => g.slug).sort();
  expect(await groups()).toEqual(["project:garden:agents", "project:garden:members"]);
  expect(await slugsOf("user", owner)).toContain("project:garden:members");
  await transaction(store.db, (tx) => changeProject(tx, id, { slug: "orchard" }));
  expect(await groups()).toEqual(["project:orchard:agents", "project:orchard:members"]);
  const [policy] = await listPolicies(store.db, { scopeId: id }, { limit: 10 });
  expect(policy).toMatchObject({ name: "project:orchard:member-create-agents", actions: ["create", "stop_all"] });
  // The old name is free again.
  await newProject("garden", owner);
  await transaction(store.db, (tx) => deleteProject(tx, id));
  expect(await groups()).toEqual([]);
  expect(await listPolicies(store.db, { scopeId: id }, { limit: 10 })).toEqual([]);
});

test("a project of nobody has groups without members", async () => {
  const id = await newProject("nobodys", null);
  const [, members] = await listGroups(store.db, { projectId: id }, { limit: 10 });
  expect(members && (await listGroupMembers(store.db, members, { limit: 10 }))).toEqual([]);
});

test("weak point 21: seeds are there once, names of seeds are nobody else's, a binding is there once", async () => {
  const { db } = store;
  const named = (await listPolicies(db, { scopeType: "hub" }, { limit: 10 })).map((p) => p.name);
  expect(named).toEqual(expect.arrayContaining(["hub-member-read-all", "hub-member-create-projects"]));
  expect(named).toHaveLength(2);
  const policy = await insertPolicy(db, {
    id: systemRandom.uuid(),
    name: "p",
    scope_type: "hub",
    actions: ["read"],
    effect: "allow",
  });
  const group = await newGroup("bound");
  const binding = { policyId: policy.id, principalType: "group" as const, principalId: group };
  const bound = await Promise.all([1, 2, 3].map(() => bindPolicy(db, { ...binding, createdBy: null })));
  expect(bound.filter(Boolean)).toHaveLength(1);
  expect(await policyBindings(db, policy.id)).toEqual([binding]);
  await expect(
    store.query(`insert into policies (id, name, scope_type, actions, effect, seeded)
      values (gen_random_uuid(), 'hub-member-read-all', 'hub', '{read}', 'allow', true)`),
  ).rejects.toThrow(/policies_seeded/);
});

test("a group inside groups: whoever is in it is in all of them", async () => {
  const user = await newUser("cas");
  const chain: string[] = [];
  for (let depth = 0; depth < 12; depth += 1) chain.push(await newGroup(`deep-${depth}`));
  for (const [i, inner] of chain.entries()) {
    const outer = chain[i + 1];
    if (outer !== undefined) await nest(outer, inner);
  }
  await addGroupMember(store.db, {
    groupId: chain[0] ?? "",
    memberType: "user",
    memberId: user,
    role: "member",
    addedBy: null,
  });
  expect((await slugsOf("user", user)).filter((s) => s.startsWith("deep-"))).toHaveLength(12);
  expect(await outcome(nest(chain[0] ?? "", chain[11] ?? ""))).toBe("circle");
});

const outcome = async (attempt: Promise<unknown>): Promise<string> => {
  try {
    await attempt;
    return "added";
  } catch (err) {
    return isGroupCircle(err) ? "circle" : isFoundGroup(err) ? "found" : String(err);
  }
};

test("no group comes to be inside itself: directly, through others, or by many at once", async () => {
  const [a, b, c] = [await newGroup("ring-a"), await newGroup("ring-b"), await newGroup("ring-c")];
  expect(await outcome(nest(a, a))).toBe("circle");
  await nest(a, b);
  await nest(b, c);
  expect(await outcome(nest(c, a))).toBe("circle");
  for (let round = 0; round < 10; round += 1) {
    const ring = await Promise.all(Array.from({ length: 4 }, (_, i) => newGroup(`round-${round}-${i}`)));
    const outcomes = await Promise.all(
      ring.map((id, i) => outcome(transaction(store.db, (tx) => nestIn(tx, id, ring[(i + 1) % ring.length] ?? "")))),
    );
    expect(outcomes.sort()).toEqual(["added", "added", "added", "circle"]);
  }
});

const nestIn = (db: typeof store.db, groupId: string, memberId: string) =>
  addGroupMember(db, { groupId, memberType: "group", memberId, role: "member", addedBy: null });

test("a member whose role is not any more what was looked at is neither changed nor removed", async () => {
  const { db } = store;
  const key = { groupId: await newGroup("raced"), memberType: "user" as const, memberId: await newUser("eve") };
  await addGroupMember(db, { ...key, role: "member", addedBy: null });
  expect(await changeGroupMemberRole(db, key, { seen: "member", role: "owner" })).toBe("changed");
  // By those who took it for a member's.
  expect(await removeGroupMember(db, key, "member")).toBe("moved");
  expect(await changeGroupMemberRole(db, key, { seen: "member", role: "admin" })).toBe("moved");
  expect(await changeGroupMemberRole(db, key, { seen: "owner", role: "admin" })).toBe("last_owner");
  expect(await findGroupMember(db, key)).toMatchObject({ role: "owner" });
});

test("the agents of a project are in its agents' group without being added, and nobody is added to it", async () => {
  const project = await newProject("farm", null);
  const agentId = await seed(store).agent({ project_id: project, slug: "hand" });
  expect(await slugsOf("agent", agentId)).toEqual(["project:farm:agents"]);
  const group = await groupBySlug(store.db, "project:farm:agents");
  if (!group) throw new Error("no group");
  expect(await listGroupMembers(store.db, group, { limit: 10 })).toMatchObject([
    { memberType: "agent", memberId: agentId },
  ]);
  const user = await newUser("dot");
  const add = addGroupMember(store.db, {
    groupId: group.id,
    memberType: "user",
    memberId: user,
    role: "member",
    addedBy: null,
  });
  expect(await outcome(add)).toBe("found");
  expect(await outcome(newGroup("project:farm:x"))).toMatch(/check/);
});
