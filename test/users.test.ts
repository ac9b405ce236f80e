import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { type ApiReply, api, eventually, openEventStream, type Replica, Scene, testLogin } from "@rootstock/testkit";

/** What an admin changes of people at one replica holds at every other (spec/03 6.1). */

const ENV = { ROOTSTOCK_TEST_LOGIN: "1" };
/** Who loses a right has lost it everywhere within this time, in milliseconds. */
const EVERYWHERE_MS = 2_000;
let scene: Scene;
let a: Replica;
let b: Replica;
beforeEach(async () => {
  scene = await Scene.create();
  [a, b] = [await scene.replica(ENV), await scene.replica(ENV)];
});
afterEach(() => scene.end());

const signIn = (email: string, role: "admin" | "member" = "member") => testLogin(a, { email, role });
const as = (person: ApiReply) => ({ token: person.text("accessToken") });
const patch = (replica: Replica, person: ApiReply, body: object) =>
  api(replica, "PATCH", `/api/v1/users/${person.text("user.id")}`, body);
const answers = (replica: Replica, person: ApiReply, path: string, status: number) =>
  eventually(async () => (await api(replica, "GET", path, undefined, as(person))).status === status, EVERYWHERE_MS);

test("weak point 1: who is suspended at one replica is out at every other, and stays out of what they held", async () => {
  const ann = await signIn("ann@example.org");
  for (const replica of [a, b]) await answers(replica, ann, "/api/v1/users", 200);
  expect((await patch(b, ann, { status: "suspended" })).status).toBe(200);
  for (const replica of [a, b]) await answers(replica, ann, "/api/v1/auth/me", 401);
  expect((await patch(a, ann, { status: "active" })).status).toBe(200);
  const again = await signIn("ann@example.org");
  for (const replica of [a, b]) await answers(replica, again, "/api/v1/auth/me", 200);
  expect((await api(a, "GET", "/api/v1/auth/me", undefined, as(ann))).status).toBe(401);
});

test("when somebody was here last is told, however they call, and written once an hour", async () => {
  const [ann, bob] = [await signIn("ann@example.org"), await signIn("bob@example.org")];
  const cookie = bob.headers.get("set-cookie")?.split(";", 1)[0] ?? "";
  const seen = async (who: ApiReply) => (await api(b, "GET", `/api/v1/users/${who.text("user.id")}`)).get("lastSeen");
  expect([await seen(ann), await seen(bob)]).toEqual(Array(2).fill("0001-01-01T00:00:00Z"));
  await answers(a, ann, "/api/v1/auth/me", 200);
  expect((await fetch(`${b.url}/`, { headers: { cookie } })).status).toBe(200);
  await eventually(async () => {
    for (const who of [ann, bob]) expect(await seen(who)).not.toBe("0001-01-01T00:00:00Z");
  });
  const first = await seen(ann);
  await answers(b, ann, "/api/v1/auth/me", 200);
  const newest = await api(a, "GET", "/api/v1/users?sort=lastSeen&role=member");
  expect(newest.list("users")).toHaveLength(2);
  expect(await seen(ann)).toBe(first);
});

test("whom an admin signs out at one replica is signed out at every other", async () => {
  const ann = await signIn("ann@example.org");
  for (const replica of [a, b]) await answers(replica, ann, "/api/v1/auth/me", 200);
  expect((await api(b, "POST", `/api/v1/users/${ann.text("user.id")}/sign-out-everywhere`)).status).toBe(204);
  for (const replica of [a, b]) await answers(replica, ann, "/api/v1/auth/me", 401);
  const again = await api(a, "POST", "/api/v1/auth/refresh", { refreshToken: ann.text("refreshToken") });
  expect(again.status).toBe(401);
});

test("weak point 28: a demoted admin is none at any replica any more", async () => {
  const eve = await signIn("eve@example.org", "admin");
  for (const replica of [a, b]) await answers(replica, eve, "/api/v1/admin/invites", 200);
  expect((await patch(a, eve, { role: "member" })).text("role")).toBe("member");
  for (const replica of [a, b]) await answers(replica, eve, "/api/v1/admin/invites", 401);
});

test("whoever is made an admin is one at every replica, with the tokens that they have", async () => {
  const bob = await signIn("bob@example.org");
  for (const replica of [a, b]) await answers(replica, bob, "/api/v1/admin/invites", 403);
  expect((await patch(b, bob, { role: "admin" })).status).toBe(200);
  for (const replica of [a, b]) await answers(replica, bob, "/api/v1/admin/invites", 200);
});

test("a deleted person's tokens are dead everywhere, those of their programs included; what they own stays", async () => {
  const cat = await signIn("cat@example.org");
  const project = await api(a, "POST", "/api/v1/projects", { name: "of cat" }, as(cat));
  const projectId = project.text("id");
  const made = await api(
    b,
    "POST",
    "/api/v1/auth/tokens",
    { name: "ci", projectId, scopes: ["project:read"] },
    as(cat),
  );
  const program = { token: made.text("token") };
  const path = `/api/v1/projects/${projectId}`;
  for (const replica of [a, b]) expect((await api(replica, "GET", path, undefined, program)).status).toBe(200);
  expect((await api(a, "DELETE", `/api/v1/users/${cat.text("user.id")}`)).status).toBe(204);
  for (const replica of [a, b]) {
    await answers(replica, cat, "/api/v1/auth/me", 401);
    await eventually(async () => (await api(replica, "GET", path, undefined, program)).status === 401, EVERYWHERE_MS);
    expect(
      (await api(replica, "POST", "/api/v1/auth/refresh", { refreshToken: cat.text("refreshToken") })).status,
    ).toBe(401);
  }
  expect((await api(b, "GET", path)).get("ownerId") ?? "").toBe("");
});

test("whoever may come in is news for admins at every replica, without an address, and for nobody else", async () => {
  const bob = await signIn("bob@example.org");
  const streams = [
    await openEventStream(b, { patterns: ["admin.>"] }),
    await openEventStream(b, { patterns: [">"], ...as(bob) }),
  ];
  const [forAdmins, forBob] = streams;
  const invite = await api(a, "POST", "/api/v1/admin/invites", { expiresIn: "1h", maxUses: 2 });
  const id = invite.text("invite.id");
  await api(b, "POST", "/api/v1/auth/invite/redeem", { code: invite.text("code") }, as(bob));
  await api(a, "POST", `/api/v1/admin/invites/${id}/revoke`);
  await api(a, "DELETE", `/api/v1/admin/invites/${id}`);
  await api(a, "POST", "/api/v1/admin/allow-list", { email: "cat@example.org" });
  await api(a, "POST", "/api/v1/admin/allow-list/import", {
    emails: [{ email: "dan@example.org" }, { email: "eve@example.org" }],
  });
  await api(a, "DELETE", "/api/v1/admin/allow-list/dan%40example.org");
  const news = () => (forAdmins?.updates() ?? []).map((frame) => frame.data);
  await eventually(() => news().length === 8);
  const codePrefix = invite.text("invite.codePrefix");
  const ofInvite = (action: string) => ({
    subject: "admin.invite.changed",
    data: { action, inviteId: id, codePrefix },
  });
  const ofList = (action: string) => ({ subject: "admin.allowlist.changed", data: { action } });
  expect(news()).toEqual([
    ofInvite("created"),
    ofInvite("redeemed"),
    ofList("added"),
    ofInvite("revoked"),
    ofInvite("deleted"),
    ofList("added"),
    ofList("bulk_added"),
    ofList("removed"),
  ]);
  expect(JSON.stringify(forBob?.frames)).not.toContain("admin.");
  for (const stream of streams) await stream.close();
});

test("everybody who signs in is a member of the hub, once; whoever was taken out stays out", async () => {
  const members = () =>
    scene.database.query(
      "select u.email from group_memberships m join groups g on g.id = m.group_id join users u on u.id = m.user_id where g.slug = 'hub-members' order by email",
    );
  await Promise.all(Array.from({ length: 6 }, (_, i) => testLogin(i % 2 === 0 ? a : b, { email: "ann@example.org" })));
  expect(await members()).toContainEqual({ email: "ann@example.org" });
  const before = (await members()).length;
  await signIn("ann@example.org");
  expect(await members()).toHaveLength(before);
  await scene.database.query(
    "delete from group_memberships where user_id = (select id from users where email = 'ann@example.org')",
  );
  await signIn("ann@example.org");
  expect(await members()).toHaveLength(before - 1);
});
