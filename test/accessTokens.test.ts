import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { type ApiReply, api, eventually, type Replica, Scene, testLogin } from "@rootstock/testkit";

/** Tokens that a person gives to programs (spec/03 1.3, 6.7): one project, some scopes, never more than their owner. */

let scene: Scene;
let a: Replica;
let b: Replica;
let session: string;
let project: string;
let other: string;

beforeAll(async () => {
  scene = await Scene.create();
  const env = { ROOTSTOCK_TEST_LOGIN: "1" };
  [a, b] = [await scene.replica(env), await scene.replica(env)];
  session = (await testLogin(a, { email: "ann@example.org", role: "admin" })).text("accessToken");
  project = (await as(session, "POST", "/api/v1/projects", { name: "one" })).text("id");
  other = (await as(session, "POST", "/api/v1/projects", { name: "two" })).text("id");
});
afterAll(() => scene.end());

const as = (token: string, method: string, path: string, body?: unknown, replica: Replica = a): Promise<ApiReply> =>
  api(replica, method, path, body, { token });
const create = (scopes: readonly string[], more: object = {}) =>
  as(session, "POST", "/api/v1/auth/tokens", { name: "ci", projectId: project, scopes, ...more });

test("a token is shown once, kept as its hash, listed without it, and good at every replica", async () => {
  const made = await create(["agent:list", "agent:list", "agent:manage"]);
  expect(made.status).toBe(201);
  const token = made.text("token");
  expect(token).toMatch(/^scion_pat_[A-Za-z0-9_-]{43}$/);
  expect(made.get("accessToken")).toEqual({
    id: expect.any(String),
    name: "ci",
    prefix: token.slice(0, 22),
    projectId: project,
    groveId: project,
    scopes: ["agent:list", "agent:create", "agent:read", "agent:start", "agent:stop", "agent:delete", "agent:dispatch"],
    revoked: false,
    expiresAt: expect.any(String),
    created: expect.any(String),
  });
  const id = made.text("accessToken.id");
  expect((await as(token, "GET", `/api/v1/projects/${project}/agents`, undefined, b)).status).toBe(200);
  await eventually(
    async () => typeof (await as(session, "GET", `/api/v1/auth/tokens/${id}`)).get("lastUsed") === "string",
  );
  const [row] = await scene.database.query("select row_to_json(t)::text as text from access_tokens t where id = $1", [
    id,
  ]);
  expect(String(row?.text)).not.toContain(token.slice(22));
  expect((await as(session, "GET", "/api/v1/auth/tokens")).list("items")).toHaveLength(1);
});

test("weak points 17 and 29: a token does what its scopes say in its project, and nothing anywhere else", async () => {
  const token = (await create(["agent:list"])).text("token");
  expect((await as(token, "GET", `/api/v1/projects/${other}`)).status).toBe(404);
  expect((await as(token, "GET", "/api/v1/projects")).list("projects")).toHaveLength(1);
  const attempts: readonly (readonly [string, string, unknown?])[] = [
    ["POST", "/api/v1/agents", { name: "x", projectId: project }],
    ["POST", "/api/v1/projects", { name: "three" }],
    ["PATCH", `/api/v1/projects/${project}`, { name: "mine" }],
    ["DELETE", `/api/v1/projects/${project}`],
    ["GET", "/metrics"],
    ["GET", "/api/v1/admin/invites"],
    ["POST", "/api/v1/auth/tokens", { name: "more", projectId: project, scopes: ["agent:create"] }],
    ["GET", "/api/v1/auth/tokens"],
    ["POST", "/api/v1/auth/sign-out-everywhere"],
    ["POST", "/api/v1/brokers", { name: "laptop" }],
    ["GET", "/events?sub=%3E"],
  ];
  for (const [method, path, body] of attempts)
    expect([method, path, (await as(token, method, path, body)).status]).toEqual([method, path, 403]);
  const blind = (await create(["project:read"])).text("token");
  expect((await as(blind, "GET", "/api/v1/agents")).list("agents")).toEqual([]);
});

test("weak point 17: a token for messages reaches the agents of its project, and no person", async () => {
  await scene.runtimeBroker(a);
  const agent = await scene.agent(a, project, "told");
  const token = (await create(["agent:message"])).text("token");
  const message = { msg: "hear", recipient: "set[told,user:ann@example.org]" };
  const sent = await as(token, "POST", `/api/v1/agents/${agent}/message`, { structured_message: message }, b);
  expect(sent.list("results")).toMatchObject([
    { recipient: "told", status: "delivered" },
    { recipient: "user:ann@example.org", status: "failed", error: "access tokens write to no person" },
  ]);
  expect(await scene.database.query("select 1 from messages where recipient like 'user:%'")).toEqual([]);
});

test("weak point 1: a token is out when it is revoked, has run out, or its owner is suspended, at every replica", async () => {
  const out = (token: string) =>
    eventually(async () => (await as(token, "GET", "/api/v1/auth/me", undefined, b)).status === 401, 2_000);
  const revoked = await create(["agent:list"]);
  expect((await as(revoked.text("token"), "GET", "/api/v1/auth/me", undefined, b)).status).toBe(200);
  const path = `/api/v1/auth/tokens/${revoked.text("accessToken.id")}`;
  for (let i = 0; i < 2; i += 1) expect((await as(session, "POST", `${path}/revoke`)).status).toBe(204);
  await out(revoked.text("token"));
  expect((await as(session, "DELETE", path)).status).toBe(204);
  expect((await as(session, "DELETE", path)).status).toBe(404);
  const eve = (await testLogin(a, { email: "eve@example.org" })).text("accessToken");
  expect((await as(eve, "DELETE", path)).status).toBe(404);
  const last = (await create(["agent:list"])).text("token");
  await scene.database.query("update access_tokens set expires_at = now() - interval '1 s'");
  await out(last);
});

test("what cannot be a token is refused", async () => {
  const inDays = (days: number) => new Date(performance.timeOrigin + days * 86_400_000);
  for (const [body, status] of [
    [{ scopes: [] }, 400],
    [{ scopes: ["agent:everything"] }, 400],
    [{ projectId: "0e0e0e0e-0000-4000-8000-000000000001" }, 400],
    [{ name: " " }, 400],
    [{ expiresAt: "2020-01-01T00:00:00Z" }, 400],
    [{ expiresAt: inDays(400).toISOString() }, 400],
    [{ expiresAt: inDays(300).toISOString() }, 201],
  ] as const)
    expect([body, (await create(["agent:list"], body)).status]).toEqual([body, status]);
  await scene.database.query(
    `insert into access_tokens (id, user_id, project_id, name, prefix, token_hash, scopes, expires_at)
     select gen_random_uuid(), u.id, $1, 'n', 'p', decode(md5(i::text), 'hex'), '{}', now() + interval '1 day'
       from users u, generate_series(1, 50) i where u.email = 'ann@example.org'`,
    [project],
  );
  expect((await create(["agent:list"])).get("error.code")).toBe("limit_exceeded");
});
