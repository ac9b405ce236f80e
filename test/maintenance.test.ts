import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { AGENT_TOKEN_HEADER } from "@rootstock/hub";
import {
  type ApiReply,
  api,
  eventually,
  type Replica,
  Scene,
  type SimulatedRuntimeBroker,
  TEST_TOKEN,
  testLogin,
} from "@rootstock/testkit";

/** Maintenance (spec/03 5.10): people wait, machines go on, and every replica says the same. */

let scene: Scene;
let a: Replica;
let b: Replica;
let member: string;
let refreshToken: string;
beforeEach(async () => {
  scene = await Scene.create();
  [a, b] = [await scene.replica({ ROOTSTOCK_TEST_LOGIN: "1" }), await scene.replica({ ROOTSTOCK_TEST_LOGIN: "1" })];
  const signedIn = await testLogin(a, { email: "ann@example.org", role: "member" });
  [member, refreshToken] = [signedIn.text("accessToken"), signedIn.text("refreshToken")];
});
afterEach(() => scene.end());

const put = (body: object, replica: Replica = a): Promise<ApiReply> =>
  api(replica, "PUT", "/api/v1/admin/maintenance", body);
const asMember = (replica: Replica, method: string, path: string, body?: object): Promise<ApiReply> =>
  api(replica, method, path, body, { token: member });
const closed = (replica: Replica) =>
  eventually(async () => (await asMember(replica, "GET", "/api/v1/projects")).status === 503, 2_000);
const open = (replica: Replica) =>
  eventually(async () => (await asMember(replica, "GET", "/api/v1/projects")).status === 200, 2_000);

test("weak point 11: maintenance is the same at every replica, and its message can be cleared", async () => {
  const get = async (replica: Replica) => (await api(replica, "GET", "/api/v1/admin/maintenance")).json;
  expect(await get(b)).toEqual({ enabled: false, message: "System offline for maintenance" });
  expect((await put({ enabled: true, message: "back at noon" })).json).toEqual({
    enabled: true,
    message: "back at noon",
  });
  for (const replica of [a, b]) await closed(replica);
  const refused = await asMember(b, "GET", "/api/v1/projects");
  expect([refused.status, refused.json]).toEqual([503, { error: "system_maintenance", message: "back at noon" }]);
  expect(refused.headers.get("retry-after")).toBe("30");
  expect((await put({}, b)).json).toEqual({ enabled: true, message: "back at noon" });
  expect((await put({ message: "" }, b)).json).toEqual({ enabled: true, message: "System offline for maintenance" });
  expect(await get(a)).toEqual({ enabled: true, message: "System offline for maintenance" });
  await put({ enabled: false });
  for (const replica of [a, b]) await open(replica);
  const replica = await scene.replica();
  await put({ enabled: true });
  expect((await asMember(await scene.replica(), "GET", "/api/v1/projects")).status).toBe(503);
  await closed(replica);
});

test("weak point 11: maintenance stops neither agents nor runtime brokers, nor signing in, refreshing and health", async () => {
  const runtimeBroker: SimulatedRuntimeBroker = await scene.runtimeBroker(a);
  const agent = await scene.agent(a, await scene.project(a), "a1");
  const made = runtimeBroker.received.find((r) => Reflect.get(Object(r.json), "slug") === "a1");
  const agentToken = String(Reflect.get(Object(made?.json), "agentToken"));
  await put({ enabled: true });
  for (const replica of [a, b]) await closed(replica);
  const headers = { authorization: "", [AGENT_TOKEN_HEADER]: agentToken };
  const report = await api(b, "POST", `/api/v1/agents/${agent}/status`, { activity: "working" }, { headers });
  expect(report.status).toBe(200);
  expect((await api(b, "POST", `/api/v1/agents/${agent}/token/refresh`, undefined, { headers })).status).toBe(200);
  expect((await runtimeBroker.heartbeat()).status).toBe(200);
  const session = runtimeBroker.onSession.next();
  runtimeBroker.cut();
  await session;
  for (const path of ["/healthz", "/health", "/readyz"]) expect((await api(b, "GET", path)).status).toBe(200);
  expect((await api(b, "POST", "/api/v1/auth/refresh", { refreshToken })).status).toBe(200);
  expect((await testLogin(b, { email: "bob@example.org" })).status).toBe(200);
  expect((await asMember(b, "GET", "/api/v1/auth/me")).status).toBe(200);
  expect((await api(b, "GET", "/api/v1/projects", undefined, { token: TEST_TOKEN })).status).toBe(200);
  expect((await api(b, "GET", "/api/v1/projects", undefined, { token: "x.y.z" })).status).toBe(401);
  expect((await asMember(b, "POST", "/api/v1/auth/sign-out-everywhere")).status).toBe(204);
});

test("only admins close the hub, and the audit log says who did", async () => {
  expect((await asMember(a, "PUT", "/api/v1/admin/maintenance", { enabled: true })).status).toBe(403);
  expect((await asMember(a, "GET", "/api/v1/admin/maintenance")).status).toBe(403);
  expect((await put({ enabled: "yes" })).status).toBe(400);
  expect((await put({ message: "x".repeat(1_001) })).status).toBe(400);
  expect((await put({ enabled: true })).status).toBe(200);
  const log = await api(a, "GET", "/api/v1/admin/audit?action=maintenance_changed");
  expect(JSON.stringify(log.json)).toContain("dev@localhost");
});
