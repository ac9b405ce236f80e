import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { api, eventually, type Replica, Scene, TEST_SECRET, TEST_TOKEN, testLogin } from "@rootstock/testkit";
import { WebSocket } from "ws";

/** People signed in by a browser: one cookie, good at every replica until it is not at any. */

const TEST_LOGIN = { ROOTSTOCK_TEST_LOGIN: "1" };
let scene: Scene;
let a: Replica;
let b: Replica;
beforeEach(async () => {
  scene = await Scene.create();
  [a, b] = [await scene.replica(TEST_LOGIN), await scene.replica(TEST_LOGIN)];
});
afterEach(() => scene.end());

const pair = (setCookie: string | null): string => setCookie?.split(";", 1)[0] ?? "";
const signIn = async (role?: "admin" | "member", email = "ann@example.org"): Promise<string> => {
  const reply = await testLogin(a, { email, displayName: "Ann", ...(role && { role }) });
  expect(reply.status).toBe(200);
  return pair(reply.headers.get("set-cookie"));
};
const call = async (
  replica: Replica,
  method: string,
  path: string,
  headers: Readonly<Record<string, string>>,
  body?: unknown,
) => {
  const answer = await fetch(`${replica.url}${path}`, {
    method,
    headers: { ...headers, ...(body !== undefined && { "content-type": "application/json" }) },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  return { status: answer.status, headers: answer.headers, body: await answer.json().catch(() => undefined) };
};
const me = (replica: Replica, cookie: string, more: Readonly<Record<string, string>> = {}) =>
  call(replica, "GET", "/api/v1/auth/me", { cookie, ...more });
const out = async (cookie: string) => {
  for (const replica of [a, b]) await eventually(async () => (await me(replica, cookie)).status === 401, 2_000);
};

test("the cookie is good at every replica, for calls and event streams; a bearer beside it counts alone", async () => {
  const cookie = await signIn();
  for (const replica of [a, b])
    expect(await me(replica, cookie)).toMatchObject({
      status: 200,
      body: { email: "ann@example.org", role: "member" },
    });
  const stream = await fetch(`${b.url}/events?sub=%3E`, { headers: { cookie } });
  expect(stream.status).toBe(200);
  await stream.body?.cancel();
  expect((await me(b, cookie, { authorization: `Bearer ${TEST_TOKEN}` })).body).toMatchObject({ role: "admin" });
  expect((await me(b, cookie, { authorization: "Bearer nonsense" })).status).toBe(401);
  expect((await me(b, cookie, { authorization: "Basic dTpw" })).status).toBe(200);
  expect((await me(b, `${cookie}x`)).headers.get("set-cookie")).toContain("rootstock_session=; Path=/; Max-Age=0");
});

test("weak point 1: who is suspended or demoted is out at every replica within two seconds, streams included", async () => {
  const [member, admin] = [await signIn(), await signIn("admin", "root@example.org")];
  const stream = await fetch(`${b.url}/events?sub=%3E`, { headers: { cookie: member } });
  const ended = stream.text();
  expect((await call(b, "GET", "/metrics", { cookie: admin })).status).toBe(200);
  await scene.database.query("update users set status = 'suspended' where email = 'ann@example.org'");
  await scene.database.query("update users set role = 'member' where email = 'root@example.org'");
  await out(member);
  await out(admin);
  await ended;
});

test("weak point 1: signing out ends the session at every replica, signing out everywhere all of them", async () => {
  const [one, two, three] = [await signIn(), await signIn(), await signIn()];
  const own = { origin: b.url };
  const answer = await call(b, "POST", "/api/v1/auth/logout", { cookie: one, ...own });
  expect([answer.status, pair(answer.headers.get("set-cookie"))]).toEqual([200, "rootstock_session="]);
  await out(one);
  expect((await me(a, two)).status).toBe(200);
  expect((await call(b, "POST", "/api/v1/auth/sign-out-everywhere", { cookie: two, ...own })).status).toBe(204);
  await out(two);
  await out(three);
});

test("a page of another site changes nothing with the cookie, nor does anybody who does not say where they are", async () => {
  const cookie = await signIn();
  const make = (headers: Readonly<Record<string, string>>) =>
    call(b, "POST", "/api/v1/projects", { cookie, ...headers }, { name: "p" });
  for (const headers of [
    {},
    { origin: "https://evil.example" },
    { origin: "null" },
    { origin: b.url, "sec-fetch-site": "cross-site" },
  ])
    expect(await make(headers)).toMatchObject({ status: 403, body: { error: { code: "forbidden" } } });
  expect((await call(b, "POST", "/api/v1/auth/logout", { cookie, origin: "https://evil.example" })).status).toBe(403);
  expect(await scene.database.query("select 1 from projects")).toEqual([]);
  expect((await make({ origin: b.url })).status).toBe(201);
  expect((await make({ "sec-fetch-site": "same-origin" })).status).not.toBe(403);
});

test("a WebSocket is opened with the cookie by our own pages only", async () => {
  const project = await scene.project(a);
  await scene.runtimeBroker(a);
  const agent = await scene.agent(a, project, "a1");
  const cookie = await signIn("admin");
  const open = (origin: string | undefined): Promise<number> =>
    new Promise((resolve) => {
      const ws = new WebSocket(`${b.url.replace("http", "ws")}/api/v1/agents/${agent}/pty`, {
        headers: { cookie, ...(origin && { origin }) },
      });
      ws.on("error", () => {});
      ws.once("unexpected-response", (request, response) => {
        resolve(response.statusCode ?? 0);
        request.destroy();
      });
      ws.once("open", () => {
        resolve(101);
        ws.close();
      });
    });
  expect([await open(undefined), await open("https://evil.example"), await open(b.url)]).toEqual([403, 403, 101]);
});

test("replacing ROOTSTOCK_SECRET: the cookie goes on at replicas that know both", async () => {
  const cookie = await signIn();
  const present = "the present secret of at least 32 bytes";
  const both = await scene.replica({ ...TEST_LOGIN, ROOTSTOCK_SECRET: `${present},${TEST_SECRET}` });
  expect((await me(both, cookie)).status).toBe(200);
  const alone = await scene.replica({ ...TEST_LOGIN, ROOTSTOCK_SECRET: present });
  expect((await me(alone, cookie)).status).toBe(401);
  expect((await api(alone, "GET", "/api/v1/auth/me")).status).toBe(200);
});
