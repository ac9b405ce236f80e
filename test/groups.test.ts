import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { type ApiReply, api, eventually, type Replica, Scene, testLogin } from "@rootstock/testkit";

/** What groups and policies give and take at one replica they give and take at every other (spec/03 5, 6.2, 6.3). */

const ENV = { ROOTSTOCK_TEST_LOGIN: "1" };
const EVERYWHERE_MS = 2_000;
let scene: Scene;
let a: Replica;
let b: Replica;
let ann: ApiReply;
let bob: ApiReply;
let project: string;

beforeEach(async () => {
  scene = await Scene.create();
  [a, b] = [await scene.replica(ENV), await scene.replica(ENV)];
  [ann, bob] = [
    await testLogin(a, { email: "ann@example.org", displayName: "Ann" }),
    await testLogin(b, { email: "bob@example.org", displayName: "Bob" }),
  ];
  project = (await as(ann, a, "POST", "/api/v1/projects", { name: "Shared" })).text("id");
});
afterEach(() => scene.end());

const as = (person: ApiReply, replica: Replica, method: string, path: string, body?: object) =>
  api(replica, method, path, body, { token: person.text("accessToken") });
const idOf = (person: ApiReply) => person.text("user.id");
/** Until bob is answered so at both replicas. */
const bobHears = async (status: number, method: string, path: string, body?: object): Promise<void> => {
  for (const replica of [a, b])
    await eventually(async () => (await as(bob, replica, method, path, body)).status === status, EVERYWHERE_MS);
};
const onProject = (): [string, string, object] => ["PATCH", `/api/v1/projects/${project}`, { labels: { by: "bob" } }];

test("who is put into a project's group works in it at every replica, and not any more once taken out", async () => {
  await bobHears(404, "GET", `/api/v1/projects/${project}`);
  const members = `/api/v1/groups/${encodeURIComponent("project:shared:members")}/members`;
  const added = await as(ann, a, "POST", members, { memberType: "user", memberId: "bob@example.org", role: "admin" });
  expect(added.json).toMatchObject({ memberId: idOf(bob), role: "admin", displayName: "Bob", addedBy: idOf(ann) });
  await bobHears(200, ...onProject());
  expect((await as(ann, b, "DELETE", `${members}/user/${idOf(bob)}`)).status).toBe(204);
  await bobHears(404, ...onProject());
});

test("who gets another role in a project has its rights at every replica, and loses them as soon", async () => {
  const members = `/api/v1/groups/${encodeURIComponent("project:shared:members")}/members`;
  await as(ann, a, "POST", members, { memberType: "user", memberId: idOf(bob) });
  await bobHears(403, ...onProject());
  const raised = await as(ann, b, "PATCH", `${members}/user/${idOf(bob)}`, { role: "admin" });
  expect(raised.json).toMatchObject({ memberId: idOf(bob), role: "admin" });
  await bobHears(200, ...onProject());
  await as(ann, a, "PATCH", `${members}/user/${idOf(bob)}`, { role: "member" });
  await bobHears(403, ...onProject());
  const rows = await scene.database.query(
    "select actor_id, details from audit_log where action = 'group_member_changed' order by id",
  );
  const told = (from: string, to: string) => ({
    actor_id: idOf(ann),
    details: { user_id: idOf(bob), role: { from, to } },
  });
  expect(rows).toEqual([told("member", "admin"), told("admin", "member")]);
});

test("weak point 18: a policy gives its group, and the groups in that, what it says, everywhere, until it goes", async () => {
  const outer = (await as(ann, a, "POST", "/api/v1/groups", { name: "Outer" })).text("id");
  const inner = (await as(ann, b, "POST", "/api/v1/groups", { name: "Inner", parentId: outer })).text("id");
  const member = { memberType: "user", memberId: idOf(bob) };
  expect((await as(ann, a, "POST", `/api/v1/groups/${inner}/members`, member)).status).toBe(201);
  const policy = await api(b, "POST", "/api/v1/policies", {
    name: "shared hands",
    scopeType: "project",
    scopeId: project,
    resourceType: "project",
    actions: ["read", "update"],
    effect: "allow",
  });
  const path = `/api/v1/policies/${policy.text("id")}`;
  await bobHears(404, ...onProject());
  await api(a, "POST", `${path}/bindings`, { principalType: "group", principalId: outer });
  await bobHears(200, ...onProject());
  const asked = { principalType: "user", principalId: idOf(bob), resourceType: "project", resourceId: project };
  const evaluated = await as(bob, a, "POST", "/api/v1/policies/evaluate", { ...asked, action: "update" });
  expect(evaluated.json).toMatchObject({ allowed: true, policyName: "shared hands", scope: "project" });
  await api(b, "PATCH", path, { actions: ["read"] });
  await bobHears(403, ...onProject());
  await api(b, "PATCH", path, { conditions: { validUntil: "2020-01-01T00:00:00Z" } });
  await bobHears(404, ...onProject());
  await api(a, "PATCH", path, { conditions: {} });
  await bobHears(200, "GET", `/api/v1/projects/${project}`);
  expect((await as(ann, b, "DELETE", `/api/v1/groups/${inner}`)).status).toBe(204);
  await bobHears(404, "GET", `/api/v1/projects/${project}`);
});

test("what is changed of groups and policies is in the audit log, with who did it", async () => {
  const group = (await as(ann, a, "POST", "/api/v1/groups", { name: "Audited" })).text("id");
  await as(ann, b, "POST", `/api/v1/groups/${group}/members`, { memberType: "user", memberId: idOf(bob) });
  await as(ann, a, "DELETE", `/api/v1/groups/${group}/members/user/${idOf(bob)}`);
  await as(ann, b, "DELETE", `/api/v1/groups/${group}`);
  const rows = await scene.database.query(
    "select action, actor_id from audit_log where target_type = 'group' and target_id = $1 order by id",
    [group],
  );
  const by = (action: string) => ({ action, actor_id: idOf(ann) });
  expect(rows).toEqual(expect.arrayContaining([by("group_created"), by("group_member_removed"), by("group_deleted")]));
});
