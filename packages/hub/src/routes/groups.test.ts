import { afterAll, beforeAll, beforeEach, expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import type { UserPrincipal } from "../auth/index.ts";
import {
  ADMIN,
  agentPrincipal,
  at,
  fieldOf,
  listAt,
  makeAgent,
  makePerson,
  makeProject,
  makeRuntimeBroker,
  startTestHub,
  type TestHub,
  textAt,
} from "./routes.testing.ts";

const GROUPS = "/api/v1/groups";
let hub: TestHub;
let ann: UserPrincipal;
let bob: UserPrincipal;
let cat: UserPrincipal;

const person = (name: string): Promise<UserPrincipal> => makePerson(hub, name);
let made = 0;
const makeGroup = async (by: UserPrincipal, more: object = {}): Promise<string> => {
  made += 1;
  const answer = await hub.as(by).send("POST", GROUPS, { name: `Group ${made}`, ...more });
  expect(answer.status).toBe(201);
  return textAt(answer.body, "id");
};
const add = (by: UserPrincipal, group: string, memberId: string, role = "member", memberType = "user") =>
  hub.as(by).send("POST", `${GROUPS}/${group}/members`, { memberType, memberId, role });
const remove = (by: UserPrincipal, group: string, memberId: string, type = "user") =>
  hub.as(by).send("DELETE", `${GROUPS}/${group}/members/${type}/${memberId}`);
const change = (by: UserPrincipal, group: string, memberId: string, role: unknown, type = "user") =>
  hub.as(by).send("PATCH", `${GROUPS}/${group}/members/${type}/${memberId}`, { role });

beforeAll(async () => {
  hub = await startTestHub();
});
afterAll(() => hub.stop());
beforeEach(async () => {
  [ann, bob, cat] = [await person("ann"), await person("bob"), await person("cat")];
});

test("whoever makes a group owns it; its slug is its own", async () => {
  const created = await hub.as(ann).send("POST", GROUPS, { name: "The Best Team", labels: { a: "b" } });
  expect(created.status).toBe(201);
  const group = {
    id: expect.any(String),
    name: "The Best Team",
    slug: "the-best-team",
    groupType: "explicit",
    labels: { a: "b" },
    created: expect.any(String),
    updated: expect.any(String),
    createdBy: ann.id,
    ownerId: ann.id,
  };
  expect(created.body).toEqual(group);
  const shown = await hub.as(ann).get(`${GROUPS}/the-best-team`);
  const actions = ["read", "update", "delete", "addMember", "removeMember"];
  expect(shown.body).toEqual({ ...group, _capabilities: { actions } });
  expect((await hub.as(bob).send("POST", GROUPS, { name: "x", slug: "The best team" })).status).toBe(409);
  const members = await hub.as(ann).get(`${GROUPS}/the-best-team/members`);
  expect(members.body).toEqual({
    members: [
      {
        groupId: textAt(created.body, "id"),
        memberType: "user",
        memberId: ann.id,
        role: "owner",
        addedAt: expect.any(String),
        addedBy: ann.id,
        displayName: "ann",
      },
    ],
    totalCount: 1,
  });
});

test.each([
  [{}, "name"],
  [{ name: " " }, "name"],
  [{ name: "!!!" }, "name"],
  [{ name: "x", groupType: "project_agents" }, "groupType"],
  [{ name: "x", parentId: "nowhere" }, "parentId"],
  [{ name: "x", labels: { a: 1 } }, "labels.a"],
  [{ name: "x".repeat(300) }, "name"],
])("a group of %j is refused by name", async (body, field) => {
  const answer = await hub.as(ann).send("POST", GROUPS, body);
  expect([answer.status, fieldOf(answer.body)]).toEqual([400, field]);
});

test("only admins make groups for others, and only for people", async () => {
  expect((await hub.as(ann).send("POST", GROUPS, { name: "for bob", ownerId: bob.id })).status).toBe(403);
  const nobody = await hub.as(ADMIN).send("POST", GROUPS, { name: "for nobody", ownerId: systemRandom.uuid() });
  expect([nobody.status, fieldOf(nobody.body)]).toEqual([400, "ownerId"]);
  const id = await makeGroup(ADMIN, { ownerId: bob.id });
  expect((await hub.as(bob).send("PATCH", `${GROUPS}/${id}`, { description: "mine" })).status).toBe(200);
  const agent = agentPrincipal(systemRandom.uuid(), systemRandom.uuid());
  expect((await hub.as(agent).send("POST", GROUPS, { name: "of an agent" })).status).toBe(403);
});

test("who is no owner neither changes nor fills a group; admins of a group add members, and never owners", async () => {
  const group = await makeGroup(ann);
  const path = `${GROUPS}/${group}`;
  expect((await hub.as(bob).send("PATCH", path, { name: "stolen" })).status).toBe(403);
  expect((await hub.as(bob).send("DELETE", path)).status).toBe(403);
  expect((await add(bob, group, bob.id, "owner")).status).toBe(403);
  expect((await add(ann, group, bob.id, "admin")).status).toBe(201);
  expect((await add(bob, group, cat.id, "owner")).status).toBe(403);
  expect((await add(bob, group, cat.id, "admin")).status).toBe(403);
  expect((await add(bob, group, cat.email)).status).toBe(201);
  expect((await add(bob, group, cat.id)).status).toBe(409);
  expect((await remove(bob, group, ann.id)).status).toBe(403);
  expect((await add(cat, group, (await person("dan")).id)).status).toBe(403);
  expect((await remove(bob, group, cat.id)).status).toBe(204);
  expect((await remove(bob, group, cat.id)).status).toBe(404);
  expect((await hub.as(ann).send("PATCH", path, { name: "Renamed", ownerId: bob.id })).body).toMatchObject({
    name: "Renamed",
    ownerId: bob.id,
  });
  expect((await hub.as(ann).send("DELETE", path)).status).toBe(204);
  expect((await hub.as(ann).get(path)).status).toBe(404);
});

test("owners change roles, admins nobody's but members'; whom there is to change, and to what, is checked", async () => {
  const group = await makeGroup(ann);
  await add(ann, group, bob.id);
  const changed = await change(ann, group, bob.id, "admin");
  expect(changed.status).toBe(200);
  expect(changed.body).toMatchObject({ memberId: bob.id, role: "admin", addedBy: ann.id, displayName: "bob" });
  expect((await change(bob, group, bob.id, "owner")).status).toBe(403);
  expect((await change(bob, group, ann.id, "member")).status).toBe(403);
  await add(ann, group, cat.id);
  expect((await change(bob, group, cat.id, "admin")).status).toBe(403);
  // What is so already needs no more than the right to say so.
  expect((await change(bob, group, cat.id, "member")).status).toBe(200);
  expect((await change(cat, group, cat.id, "owner")).status).toBe(403);
  expect((await change(ann, group, ann.id, "member")).status).toBe(400);
  expect((await change(ann, group, bob.id, "owner")).body).toMatchObject({ role: "owner" });
  expect((await change(ann, group, ann.id, "member")).status).toBe(200);
  expect((await change(ADMIN, group, ann.id, "admin")).status).toBe(200);
  for (const role of ["boss", "", null, undefined]) expect((await change(bob, group, ann.id, role)).status).toBe(400);
  expect((await change(bob, group, systemRandom.uuid(), "admin")).status).toBe(404);
  expect((await change(bob, group, "x", "admin")).status).toBe(404);
  const inner = await makeGroup(bob, { parentId: group });
  expect(fieldOf((await change(bob, group, inner, "admin", "group")).body)).toBe("role");
});

test("of owners who step down at once, one stays", async () => {
  const group = await makeGroup(ann);
  await add(ann, group, bob.id, "owner");
  const answers = await Promise.all([
    change(ADMIN, group, ann.id, "member"),
    change(ADMIN, group, bob.id, "admin"),
    remove(ADMIN, group, bob.id),
  ]);
  expect(answers.map((a) => a.status)).toEqual(expect.arrayContaining([400]));
  const members = await hub.as(ADMIN).get(`${GROUPS}/${group}/members`);
  expect(listAt(members.body, "members").map((m) => textAt(m, "role"))).toContain("owner");
});

test("somebody stays an owner, however many leave at once", async () => {
  const group = await makeGroup(ann);
  await add(ann, group, bob.id, "owner");
  const answers = await Promise.all([remove(ADMIN, group, ann.id), remove(ADMIN, group, bob.id)]);
  expect(answers.map((a) => a.status).sort()).toEqual([204, 400]);
  const members = await hub.as(ADMIN).get(`${GROUPS}/${group}/members`);
  expect(listAt(members.body, "members")).toHaveLength(1);
});

test("groups in groups: no circle, however many try at once; the inner ones' people are in the outer one", async () => {
  const [outer, inner] = [await makeGroup(ann), await makeGroup(ann)];
  const nests = await Promise.all([
    add(ann, outer, inner, "member", "group"),
    add(ann, inner, outer, "member", "group"),
  ]);
  expect(nests.map((a) => a.status).sort()).toEqual([201, 400]);
  const [top, within] = nests[0]?.status === 201 ? [outer, inner] : [inner, outer];
  expect((await add(ann, top, top, "member", "group")).status).toBe(400);
  await add(ann, within, bob.id);
  const mine = await hub.as(bob).get("/api/v1/users/me/groups");
  expect(listAt(mine.body, "groups").map((g) => textAt(g, "id"))).toEqual(expect.arrayContaining([top, within]));
  const third = await makeGroup(ann, { parentId: within });
  const listed = await hub.as(ann).get(`${GROUPS}?parentId=${within}`);
  expect(listAt(listed.body, "groups").map((g) => textAt(g, "id"))).toEqual([third]);
  // Whoever may not fill the outer one does not get in by making an inner one.
  expect((await hub.as(bob).send("POST", GROUPS, { name: "way in", parentId: within })).status).toBe(403);
  const member = await hub.as(ann).get(`${GROUPS}/${top}/members/group/${within}`);
  expect(member.body).toEqual({
    groupId: top,
    memberType: "group",
    memberId: within,
    role: "member",
    addedAt: "0001-01-01T00:00:00Z",
    addedBy: ann.id,
  });
});

test("who is unknown is refused by name", async () => {
  const group = await makeGroup(ann);
  for (const [type, id] of [
    ["user", systemRandom.uuid()],
    ["user", "nobody@example.org"],
    ["agent", systemRandom.uuid()],
    ["agent", "a1"],
    ["group", "nothing"],
  ] as const) {
    const answer = await add(ann, group, id, "member", type);
    expect([answer.status, fieldOf(answer.body)]).toEqual([400, "memberId"]);
  }
  const members = `${GROUPS}/${group}/members`;
  expect((await hub.as(ann).get(`${members}/user/${bob.id}`)).status).toBe(404);
  expect((await hub.as(ann).get(`${members}/thing/${bob.id}`)).status).toBe(404);
  expect((await hub.as(ann).get(`${GROUPS}/nothing/members`)).status).toBe(404);
});

test("a project has its groups: its members are run by who owns it, its agents are found; neither goes before it", async () => {
  const project = await makeProject(hub, ann, "Of Groups");
  const runtimeBroker = await makeRuntimeBroker(hub, "of-groups");
  const agent = await makeAgent(hub, project, "g1", runtimeBroker, { owner: ann.id });
  const [agents, members] = ["project:of-groups:agents", "project:of-groups:members"].map(encodeURIComponent);
  const found = await hub.as(ann).get(`${GROUPS}/${agents}/members`);
  expect(listAt(found.body, "members")).toEqual([expect.objectContaining({ memberType: "agent", memberId: agent })]);
  expect((await add(ann, agents ?? "", bob.id)).status).toBe(400);
  expect((await hub.as(bob).get(`${GROUPS}/${members}`)).status).toBe(404);
  expect((await add(ann, members ?? "", bob.id)).status).toBe(201);
  expect((await hub.as(bob).get(`${GROUPS}/${members}`)).status).toBe(200);
  for (const group of [agents, members, "hub-members"])
    expect((await hub.as(ADMIN).send("DELETE", `${GROUPS}/${group}`)).status).toBe(400);
  const ofAgent = await hub.as(ann).get(`/api/v1/agents/${agent}/groups`);
  expect(listAt(ofAgent.body, "groups")).toMatchObject([{ slug: "project:of-groups:agents", projectId: project }]);
});

test("who runs a project makes nobody owner of its members' group, themselves least of all", async () => {
  await makeProject(hub, ann, "Of Ann");
  const members = encodeURIComponent("project:of-ann:members");
  await add(ann, members, bob.id, "admin");
  const path = `${GROUPS}/${members}`;
  expect((await hub.as(bob).send("PATCH", path, { ownerId: bob.id })).status).toBe(403);
  expect((await change(bob, members, bob.id, "owner")).status).toBe(403);
  expect((await remove(bob, members, ann.id)).status).toBe(403);
  // What is so already is no change.
  const same = await hub.as(bob).send("PATCH", path, { ownerId: ann.id, description: "ours" });
  expect([same.status, at(same.body, "ownerId"), at(same.body, "description")]).toEqual([200, ann.id, "ours"]);
  expect((await hub.as(ann).send("PATCH", path, { ownerId: bob.id })).status).toBe(200);
});

test("a group or an agent that one may not read cannot be told from none by naming it", async () => {
  const project = await makeProject(hub, ann, "Hidden One");
  const runtimeBroker = await makeRuntimeBroker(hub, "of-hidden-one");
  const agent = await makeAgent(hub, project, "h1", runtimeBroker, { owner: ann.id });
  const slug = "project:hidden-one:members";
  const own = await makeGroup(bob);
  const refused = async (type: string, id: string) => {
    const { status, body } = await add(bob, own, id, "member", type);
    return [status, at(body, "error", "message")];
  };
  expect(await refused("group", slug)).toEqual(await refused("group", "project:nothing:members"));
  expect(await refused("agent", agent)).toEqual(await refused("agent", systemRandom.uuid()));
  const inner = await makeGroup(bob);
  await add(ann, encodeURIComponent(slug), bob.id);
  expect((await add(bob, own, slug, "member", "group")).status).toBe(201);
  expect((await add(ann, encodeURIComponent(slug), own, "member", "group")).status).toBe(400);
  expect((await add(bob, own, agent, "member", "agent")).status).toBe(201);
  await remove(ann, encodeURIComponent(slug), bob.id);
  const within = async (parent: string) =>
    (await hub.as(bob).get(`${GROUPS}?parentId=${encodeURIComponent(parent)}`)).body;
  expect(listAt(await within(own), "groups")).toEqual([]);
  expect(await within(slug)).toEqual(await within(inner));
});

test("weak point 22: lists have pages that miss nothing, and true counts, of what one may read", async () => {
  const owner = await person("owner");
  const mine = [await makeGroup(owner), await makeGroup(owner), await makeGroup(owner)];
  const seen: string[] = [];
  let cursor = "";
  do {
    const { body } = await hub.as(bob).get(`${GROUPS}?ownerId=${owner.id}&limit=2&cursor=${cursor}`);
    expect(at(body, "totalCount")).toBe(3);
    expect(at(body, "_capabilities", "actions")).toEqual(["create", "list"]);
    seen.push(...listAt(body, "groups").map((g) => textAt(g, "id")));
    cursor = Object(body).nextCursor ?? "";
  } while (cursor !== "");
  expect(seen).toEqual(mine);
  const project = await makeProject(hub, ann, "Hidden Groups");
  const hidden = await hub.as(bob).get(`${GROUPS}?projectId=${project}`);
  expect(hidden.body).toMatchObject({ groups: [], totalCount: 0 });
  expect((await hub.as(ann).get(`${GROUPS}?projectId=${project}`)).body).toMatchObject({ totalCount: 2 });
  const group = await makeGroup(ann);
  for (let i = 0; i < 4; i += 1) await add(ann, group, (await person(`m${i}`)).id);
  const first = await hub.as(ann).get(`${GROUPS}/${group}/members?limit=3`);
  const rest = await hub.as(ann).get(`${GROUPS}/${group}/members?limit=3&cursor=${textAt(first.body, "nextCursor")}`);
  const names = [first, rest].flatMap((a) => listAt(a.body, "members").map((m) => textAt(m, "displayName")));
  expect(names).toEqual(["ann", "m0", "m1", "m2", "m3"]);
  expect(at(first.body, "totalCount")).toBe(5);
});
