import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import { NOBODY, type UserPrincipal } from "../auth/index.ts";
import {
  ADMIN,
  agentPrincipal,
  at,
  fieldOf,
  listAt,
  makePerson,
  makeProject,
  startTestHub,
  type TestHub,
  textAt,
} from "./routes.testing.ts";
import { userRoutes } from "./users.ts";

const USERS = "/api/v1/users";
let hub: TestHub;

const signedOut: string[] = [];

beforeAll(async () => {
  const signIns = { endAll: async (id: string) => void signedOut.push(id) };
  hub = await startTestHub((db) => userRoutes({ db, signIns, changed: () => {} }));
});
afterAll(() => hub.stop());

const person = (name: string, role: UserPrincipal["role"] = "member", lastSeen: string | null = null) =>
  makePerson(hub, name, { role, lastSeen, email: `${name.toLowerCase().replaceAll(" ", "-")}@example.org` });
const names = (body: unknown): readonly string[] => listAt(body, "users").map((u) => textAt(u, "displayName"));

/** Every page of a list, in pages of `limit`. */
const pages = async (query: string, limit: number): Promise<readonly string[]> => {
  const found: string[] = [];
  let cursor = "";
  do {
    const { body } = await hub.as(ADMIN).get(`${USERS}?${query}&limit=${limit}&cursor=${cursor}`);
    found.push(...names(body));
    cursor = Object(body).nextCursor ?? "";
  } while (cursor !== "");
  return found;
};

test("the list: filters, orders, pages that miss nobody and repeat nobody, and true counts", async () => {
  await person("Zed List", "viewer", "2026-01-03T00:00:00Z");
  await person("adam list", "member", "2026-01-01T00:00:00Z");
  await person("Bea 100%_ List", "member", null);
  await person("Cem List", "member", "2026-01-02T00:00:00Z");
  const { body } = await hub.as(ADMIN).get(`${USERS}?search=LIST&limit=3`);
  expect(at(body, "totalCount")).toBe(4);
  expect(names(body)).toEqual(["Cem List", "Bea 100%_ List", "adam list"]);
  for (const limit of [1, 2, 3, 4, 5]) {
    expect(await pages("search=list", limit)).toEqual(["Cem List", "Bea 100%_ List", "adam list", "Zed List"]);
    expect(await pages("search=list&sort=name", limit)).toEqual([
      "adam list",
      "Bea 100%_ List",
      "Cem List",
      "Zed List",
    ]);
    expect(await pages("search=list&sort=name&dir=desc", limit)).toHaveLength(4);
    expect(await pages("search=list&sort=lastSeen", limit)).toEqual([
      "Zed List",
      "Cem List",
      "adam list",
      "Bea 100%_ List",
    ]);
  }
  expect(await pages("search=100%25_", 5)).toEqual(["Bea 100%_ List"]);
  expect(await pages("search=list&role=viewer&status=active", 5)).toEqual(["Zed List"]);
  expect(await pages("search=list&status=suspended", 5)).toEqual([]);
});

test.each([
  ["role=owner", "role"],
  ["status=gone", "status"],
  ["sort=email", "sort"],
  ["dir=up", "dir"],
  ["cursor=nonsense", "cursor"],
  [`search=${"x".repeat(400)}`, "search"],
])("a list with %s is refused by name", async (query, field) => {
  const answer = await hub.as(ADMIN).get(`${USERS}?${query}`);
  expect([answer.status, fieldOf(answer.body)]).toEqual([400, field]);
});

test("a cursor of one order is none of another", async () => {
  const first = await hub.as(ADMIN).get(`${USERS}?limit=1&sort=name`);
  const cursor = textAt(first.body, "nextCursor");
  expect((await hub.as(ADMIN).get(`${USERS}?limit=1&sort=created&cursor=${cursor}`)).status).toBe(400);
});

test("one sees who is here; one's own name and preferences are one's own affair", async () => {
  const [ann, bob] = [await person("Ann"), await person("Bob")];
  const patched = await hub
    .as(ann)
    .send("PATCH", `${USERS}/${ann.id}`, { displayName: " Ann B ", preferences: { theme: "dark", other: 1 } });
  expect(patched.body).toEqual({
    id: ann.id,
    email: ann.email,
    displayName: "Ann B",
    role: "member",
    status: "active",
    preferences: { theme: "dark" },
    created: expect.any(String),
    lastLogin: "0001-01-01T00:00:00Z",
    lastSeen: "0001-01-01T00:00:00Z",
    _capabilities: { actions: ["read", "update"] },
  });
  const seen = await hub.as(bob).get(`${USERS}/${ann.id}`);
  expect(seen.body).not.toHaveProperty("preferences");
  expect(at(seen.body, "_capabilities", "actions")).toEqual(["read"]);
  // Pages send back what they were given, the empty included.
  const same = { displayName: "", role: "member", status: "active", preferences: null };
  expect((await hub.as(ann).send("PATCH", `${USERS}/${ann.id}`, same)).body).toEqual(patched.body);
});

test("weak point 12: only admins change roles, suspend and delete", async () => {
  const [eve, bob] = [await person("Eve"), await person("Bobby")];
  for (const [target, body] of [
    [eve, { role: "admin" }],
    [eve, { status: "suspended" }],
    [bob, { displayName: "Silly" }],
    [bob, { role: "viewer" }],
    [bob, { preferences: {} }],
  ] as const)
    expect((await hub.as(eve).send("PATCH", `${USERS}/${target.id}`, body)).status).toBe(403);
  expect((await hub.as(eve).send("DELETE", `${USERS}/${bob.id}`)).status).toBe(403);
  const agent = agentPrincipal(systemRandom.uuid(), systemRandom.uuid());
  for (const stranger of [agent, NOBODY] as const) {
    expect((await hub.as(stranger).send("PATCH", `${USERS}/${bob.id}`, { role: "admin" })).status).toBeGreaterThan(400);
    expect((await hub.as(stranger).send("DELETE", `${USERS}/${bob.id}`)).status).toBeGreaterThan(400);
    expect((await hub.as(stranger).get(USERS)).status).toBeGreaterThan(400);
  }
  expect((await hub.as(ADMIN).send("POST", USERS, { email: "x@example.org" })).status).toBe(403);
  const [row] = await hub.test.query("select role, status, display_name from users where id = $1", [bob.id]);
  expect(row).toEqual({ role: "member", status: "active", display_name: "Bobby" });
});

test("weak points 28 and 29: no token of a person changes people, whatever it is scoped for and whoever's it is", async () => {
  const ann = await person("Ann of tokens", "admin");
  const limits = { tokenId: systemRandom.uuid(), projectId: systemRandom.uuid(), scopes: ["agent:manage" as const] };
  const program = hub.as({ ...ann, limits: { ...limits, scopes: ["agent:read"] } });
  expect((await program.get(USERS)).status).toBe(403);
  expect((await program.send("PATCH", `${USERS}/${ann.id}`, { displayName: "x" })).status).toBe(403);
  expect((await program.send("DELETE", `${USERS}/${ann.id}`)).status).toBe(403);
});

test("an admin changes everything; a wrong value is named, and nobody is found where nobody is", async () => {
  const cat = await person("Cat");
  const patch = (body: object) => hub.as(ADMIN).send("PATCH", `${USERS}/${cat.id}`, body);
  expect((await patch({ role: "viewer", status: "suspended" })).body).toMatchObject({
    role: "viewer",
    status: "suspended",
  });
  for (const [body, field] of [
    [{ role: "owner" }, "role"],
    [{ status: 1 }, "status"],
    [{ displayName: "x".repeat(300) }, "displayName"],
    [{ displayName: "a\0b" }, "displayName"],
    [{ preferences: { theme: ["x"] } }, "preferences.theme"],
  ] as const) {
    const answer = await patch(body);
    expect([answer.status, fieldOf(answer.body)]).toEqual([400, field]);
  }
  const nobody = `${USERS}/${systemRandom.uuid()}`;
  for (const path of [nobody, `${USERS}/no-uuid`]) {
    expect((await hub.as(ADMIN).get(path)).status).toBe(404);
    expect((await hub.as(ADMIN).send("PATCH", path, {})).status).toBe(404);
  }
  expect((await hub.as(ADMIN).send("DELETE", nobody)).status).toBe(404);
  expect((await hub.as(ADMIN).send("DELETE", `${USERS}/no-uuid`)).status).toBe(400);
});

test("a deleted person leaves projects behind, without an owner", async () => {
  const dan = await person("Dan");
  const project = await makeProject(hub, dan, "of-dan");
  expect((await hub.as(ADMIN).send("DELETE", `${USERS}/${dan.id}`)).status).toBe(204);
  expect(await hub.test.query("select owner_id from projects where id = $1", [project])).toEqual([{ owner_id: null }]);
  expect((await hub.as(ADMIN).send("DELETE", `${USERS}/${dan.id}`)).status).toBe(404);
});

test("somebody stays who may undo it: of many admins who take each other's rights at once, one is left", async () => {
  await hub.test.query("update users set role = 'member' where role = 'admin'");
  const chiefs = await Promise.all(Array.from({ length: 8 }, (_, i) => person(`Chief ${i}`, "admin")));
  const takes = chiefs.map((chief, i) => {
    const victim = `${USERS}/${chiefs[(i + 1) % 8]?.id}`;
    const as = hub.as(chief);
    if (i % 3 === 0) return as.send("DELETE", victim);
    return as.send("PATCH", victim, i % 3 === 1 ? { role: "member" } : { status: "suspended" });
  });
  const statuses = (await Promise.all(takes)).map((answer) => answer.status);
  expect(statuses.filter((s) => s === 409)).toHaveLength(1);
  expect(statuses.filter((s) => s < 300)).toHaveLength(7);
  const [left] = await hub.test.query("select id from users where role = 'admin' and status = 'active'");
  const last = chiefs.find((c) => c.id === left?.id);
  if (!last) throw new Error("no admin is left");
  const own = `${USERS}/${last.id}`;
  expect((await hub.as(last).send("PATCH", own, { role: "viewer" })).status).toBe(409);
  expect((await hub.as(last).send("PATCH", own, { status: "suspended" })).status).toBe(409);
  expect((await hub.as(last).send("DELETE", own)).status).toBe(409);
  expect((await hub.as(last).send("PATCH", own, { displayName: "The last" })).status).toBe(200);
});

test("admins sign anybody out everywhere, others only themselves", async () => {
  const [eve, fay] = [await person("Eve Out"), await person("Fay Out")];
  const signOut = (by: UserPrincipal, id: string) =>
    hub
      .as(by)
      .send("POST", `${USERS}/${id}/sign-out-everywhere`)
      .then((answer) => answer.status);
  expect(await signOut(eve, fay.id)).toBe(403);
  expect(await signOut(eve, eve.id)).toBe(204);
  expect(await signOut(ADMIN, fay.id)).toBe(204);
  expect(await signOut(ADMIN, systemRandom.uuid())).toBe(404);
  expect(signedOut).toEqual([eve.id, fay.id]);
});
