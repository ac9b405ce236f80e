import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { AGENT_TOKEN_HEADER, AgentTokens } from "@rootstock/hub";
import { signatureHeaders } from "@rootstock/protocol";
import { systemClock, systemRandom } from "@rootstock/service";
import {
  type ApiReply,
  api,
  eventually,
  joinRuntimeBroker,
  openEventStream,
  type Replica,
  Scene,
  type SimulatedCredentials,
  type SimulatedRuntimeBroker,
  TEST_SECRET,
  TEST_TOKEN,
  testLogin,
} from "@rootstock/testkit";

/**
 * Weak points of the original that routes had (spec/03 section 10; those of spec/05 section 17 are in
 * weakPointsOfResources.test.ts), each by its number. What every kind of principal may do at every route is in
 * matrix/table.txt; here is what went wrong there.
 */

let scene: Scene;
let a: Replica;
let b: Replica;
/** Owns the project with the agent. */
let ann: string;
/** Has nothing to do with it. */
let eve: string;
let project: string;
let agent: string;
let agentToken: string;
/** An agent of Eve's project, with every scope. */
let stranger: { readonly id: string; readonly token: string };
let runtimeBroker: SimulatedRuntimeBroker & { readonly id: string };
let credentials: SimulatedCredentials;
let other: SimulatedRuntimeBroker & { readonly id: string };

const SCOPES = ["agent:status:update", "agent:token:refresh", "project:agent:notify"];
const ALL_SCOPES = [...SCOPES, "project:agent:create", "project:agent:lifecycle"];

beforeAll(async () => {
  scene = await Scene.create();
  [a, b] = [await scene.replica({ ROOTSTOCK_TEST_LOGIN: "1" }), await scene.replica({ ROOTSTOCK_TEST_LOGIN: "1" })];
  ann = (await testLogin(a, { email: "ann@example.org" })).text("accessToken");
  eve = (await testLogin(a, { email: "eve@example.org" })).text("accessToken");
  credentials = await scene.join(a, "laptop");
  runtimeBroker = await scene.connect(a, credentials);
  other = await scene.connect(a, await joinRuntimeBroker({ hubUrl: a.url, token: TEST_TOKEN, name: "elsewhere" }));
  project = (await as(ann, "POST", "/projects", { name: "ours" })).text("id");
  agent = await makeAgent(ann, project, "a1");
  agentToken = await tokenOf(agent, project, SCOPES);
  const foreign = (await as(eve, "POST", "/projects", { name: "theirs" })).text("id");
  const id = await makeAgent(eve, foreign, "a2");
  stranger = { id, token: await tokenOf(id, foreign, ALL_SCOPES) };
});
afterAll(() => scene.end());

const as = (token: string, method: string, path: string, body?: unknown, replica = b): Promise<ApiReply> =>
  api(replica, method, `/api/v1${path}`, body, { token });
const asAgent = (token: string, method: string, path: string, body?: unknown): Promise<ApiReply> =>
  api(b, method, `/api/v1${path}`, body, { headers: { authorization: "", [AGENT_TOKEN_HEADER]: token } });
const asRuntimeBroker = async (by: SimulatedRuntimeBroker, method: string, path: string, body?: object) =>
  (await by.fetch(method, `/api/v1${path}`, body)).status;

const makeAgent = async (token: string, projectId: string, name: string): Promise<string> => {
  const made = await as(token, "POST", `/projects/${projectId}/agents`, {
    name,
    task: "wait",
    runtimeBrokerId: runtimeBroker.id,
  });
  const id = made.text("agent.id");
  await scene.ready(a, id);
  return id;
};
const tokenOf = async (agentId: string, projectId: string, scopes: readonly string[]): Promise<string> => {
  const tokens = new AgentTokens([TEST_SECRET], { clock: systemClock, random: systemRandom });
  return (await tokens.issue({ agentId, projectId, scopes, ancestry: [], tokenVersion: 1 })).token;
};
/** What each call was answered with, by method and path. */
const statuses = async (
  calls: readonly (readonly [method: string, path: string, body?: object])[],
  ask: (method: string, path: string, body?: object) => Promise<number>,
): Promise<Readonly<Record<string, number>>> => {
  const found: Record<string, number> = {};
  for (const [method, path, body] of calls) found[`${method} ${path}`] = await ask(method, path, body);
  return found;
};
const allOf = (found: Readonly<Record<string, number>>, ...allowed: readonly number[]) =>
  Object.entries(found).filter(([, status]) => !allowed.includes(status));

test("weak point 10: who names a runtime broker must have signed as it, and a nonce counts once, at every replica", async () => {
  const bare = { authorization: "", "x-scion-broker-id": credentials.brokerId };
  for (const headers of [bare, { ...bare, authorization: `Bearer ${ann}` }])
    for (const path of ["/api/v1/projects", `/api/v1/agents/${agent}`, "/api/v1/broker/projects"]) {
      const reply = await api(b, "GET", path, undefined, { headers });
      expect([path, reply.status, reply.get("error.code")]).toEqual([path, 401, "broker_auth_failed"]);
    }
  const path = "/api/v1/broker/projects";
  const signed = (secret: string, nonce: Uint8Array) => ({
    authorization: "",
    ...signatureHeaders({
      brokerId: credentials.brokerId,
      secret: Buffer.from(secret, "base64"),
      method: "GET",
      path,
      query: "",
      body: new Uint8Array(0),
      now: systemClock.now(),
      nonce,
    }),
  });
  const nonce = systemRandom.bytes(16);
  const forged = signed(Buffer.from(systemRandom.bytes(32)).toString("base64"), nonce);
  expect((await api(a, "GET", path, undefined, { headers: forged })).status).toBe(401);
  const headers = signed(credentials.secretKey, nonce);
  expect((await api(a, "GET", path, undefined, { headers })).status).toBe(200);
  expect((await api(b, "GET", path, undefined, { headers })).status).toBe(401);
});

test("weak point 13: naming the id of a project that is there makes nobody its owner, however it is named", async () => {
  for (const [path, body] of [
    ["/projects", { id: project, name: "mine now" }],
    ["/projects/register", { id: project, name: "mine now" }],
    ["/projects/register", { groveId: project, name: "mine now" }],
  ] as const)
    expect((await as(eve, "POST", path, body)).status).toBe(409);
  expect((await as(ann, "PATCH", `/projects/${project}`, { visibility: "public" })).status).toBe(200);
  const read = await as(eve, "POST", "/projects/register", { id: project, name: "mine now" });
  expect([read.status, read.get("created"), read.get("project.id")]).toEqual([200, false, project]);
  expect((await as(eve, "PATCH", `/projects/${project}`, { name: "mine" })).status).toBe(403);
  expect((await as(eve, "DELETE", `/projects/${project}`)).status).toBe(403);
  expect((await as(ann, "PATCH", `/projects/${project}`, { visibility: "private" })).status).toBe(200);
  expect((await asAgent(agentToken, "POST", "/projects", { name: "an agent's" })).status).toBe(403);
});

test("weak point 14: nobody registers somebody else's runtime broker again, by name or by id", async () => {
  for (const body of [
    { name: "laptop", autoProvide: true },
    { name: "LAPTOP", autoProvide: true },
    { name: "new", brokerId: credentials.brokerId, autoProvide: true },
  ]) {
    const reply = await as(eve, "POST", "/brokers", body);
    expect([reply.status, reply.get("joinToken")]).toEqual([403, undefined]);
  }
  expect((await as(eve, "POST", `/brokers/${credentials.brokerId}/rotate-secret`, {})).status).toBe(403);
  expect((await as(eve, "PATCH", `/runtime-brokers/${credentials.brokerId}`, { name: "mine" })).status).toBe(403);
  expect((await runtimeBroker.heartbeat()).status).toBe(200);
});

test("weak point 14: only an administrator offers a runtime broker to projects that are not its owner's", async () => {
  const own = { name: "eves" };
  const offered = { ...own, autoProvide: true };
  expect((await as(eve, "POST", "/brokers", offered)).status).toBe(403);
  expect((await as(eve, "POST", "/brokers", own)).status).toBe(201);
  expect((await as(eve, "POST", "/brokers", offered)).status).toBe(403);
  const serves = async () => (await as(ann, "GET", `/runtime-brokers?projectId=${project}&name=eves`)).list("brokers");
  expect(await serves()).toEqual([]);
  expect((await as(TEST_TOKEN, "POST", "/brokers", offered)).status).toBe(201);
  expect(await serves()).toHaveLength(1);
  // What it is already its owner need not ask for.
  expect((await as(eve, "POST", "/brokers", offered)).status).toBe(201);
  expect((await as(eve, "POST", "/brokers", own)).status).toBe(201);
  expect((await as(eve, "POST", "/brokers", { ...offered, preserveSettings: true })).status).toBe(201);
  expect(await serves()).toEqual([]);
});

const CHANGES = (): readonly (readonly [string, string, object?])[] => [
  ["PATCH", `/projects/${project}`, { name: "taken" }],
  ["PUT", `/projects/${project}/settings`, {}],
  ["POST", `/projects/${project}/shared-dirs`, { name: "x" }],
  ["DELETE", `/projects/${project}/shared-dirs/x`],
  ["POST", `/projects/${project}/providers`, { brokerId: other.id }],
  ["DELETE", `/projects/${project}/providers/${runtimeBroker.id}`],
  ["POST", `/projects/${project}/agents`, { name: "one more" }],
  ["POST", `/agents/${agent}/exec`, { command: ["id"] }],
  ["GET", `/agents/${agent}/pty`],
  ["GET", `/agents/${agent}/logs`],
  ["POST", `/agents/${agent}/stop`],
  ["POST", `/agents/${agent}/reset-auth`],
  ["POST", `/projects/${project}/agents/a1/env`, { env: { A: "b" } }],
  ["PATCH", `/agents/${agent}`, { name: "taken" }],
  ["DELETE", `/agents/${agent}`],
  ["DELETE", `/projects/${project}`],
];

test("weak point 15: what people are asked for, agents and runtime brokers are asked for too", async () => {
  const asked = [
    await statuses(CHANGES(), async (...call) => (await asAgent(agentToken, ...call)).status),
    await statuses(CHANGES(), async (...call) => (await asAgent(stranger.token, ...call)).status),
    await statuses(CHANGES(), (...call) => asRuntimeBroker(runtimeBroker, ...call)),
    await statuses(CHANGES(), (...call) => asRuntimeBroker(other, ...call)),
  ];
  for (const found of asked) expect(allOf(found, 403, 404)).toEqual([]);
  expect((await as(ann, "GET", `/agents/${agent}`)).get("phase")).toBe("running");
});

test("weak point 16: an agent is as well guarded below its project as it is by its own id", async () => {
  const below = `/projects/${project}/agents`;
  const calls: readonly (readonly [string, string, object?])[] = [
    ["GET", below],
    ["POST", below, { name: "one more" }],
    ["GET", `${below}/a1`],
    ["PATCH", `${below}/a1`, { name: "taken" }],
    ["POST", `${below}/a1/restore`],
    ["POST", `${below}/a1/env`, { env: {} }],
    ["POST", `${below}/a1/message`, { message: "hi" }],
    ["POST", `${below}/a1/exec`, { command: ["id"] }],
    ["DELETE", `${below}/a1`],
    ["GET", `/projects/${project}/providers`],
    ["POST", `/projects/${project}/providers`, { brokerId: other.id }],
    ["GET", `/projects/${project}/settings`],
    ["POST", `/projects/${project}/broadcast`, { structured_message: { msg: "hi" } }],
  ];
  expect(allOf(await statuses(calls, async (...call) => (await as(eve, ...call)).status), 404)).toEqual([]);
  const foreign = await statuses(calls, async (...call) => (await asAgent(stranger.token, ...call)).status);
  expect(allOf(foreign, 404)).toEqual([]);
  expect(allOf(await statuses(calls, (...call) => asRuntimeBroker(other, ...call)), 403, 404)).toEqual([]);
  const heartbeat = `/runtime-brokers/${runtimeBroker.id}/heartbeat`;
  expect(await asRuntimeBroker(other, "POST", heartbeat, { status: "offline" })).toBe(403);
  // By the short way too: an agent of that name below another project is not this one.
  const theirs = (await as(eve, "GET", "/projects")).text("projects.0.id");
  expect((await as(eve, "GET", `/projects/${theirs}/agents/${agent}`)).status).toBe(404);
});

test("weak point 19: what is private is hidden from whoever is merely signed in, in lists and events as well", async () => {
  const stream = await openEventStream(a, { patterns: [">"], token: eve });
  try {
    expect((await as(eve, "GET", `/projects/${project}`)).status).toBe(404);
    expect((await as(eve, "GET", `/agents/${agent}`)).status).toBe(404);
    for (const path of ["/agents", "/projects", `/agents?projectId=${project}`, "/projects?scope=all"]) {
      const { body } = await as(eve, "GET", path);
      expect([path, body.includes(project), body.includes(agent)]).toEqual([path, false, false]);
    }
    await as(ann, "PATCH", `/projects/${project}`, { labels: { seen: "by its people" } });
    await as(ann, "POST", `/agents/${agent}/message`, { message: "between us" });
    await asAgent(agentToken, "POST", `/agents/${agent}/status`, { activity: "thinking" });
    const theirs = (await as(eve, "GET", "/projects")).text("projects.0.id");
    await as(eve, "PATCH", `/projects/${theirs}`, { labels: { last: "one" } });
    await eventually(() => JSON.stringify(stream.frames).includes(theirs));
    const heard = JSON.stringify(stream.frames);
    expect([heard.includes(project), heard.includes(agent), heard.includes("between us")]).toEqual([
      false,
      false,
      false,
    ]);
  } finally {
    await stream.close();
  }
  for (const path of ["/env", "/secrets", "/env?scope=hub", `/projects/${project}/env`])
    expect([path, (await as(eve, "GET", path)).status]).toEqual([path, 501]);
});

test("weak point 20: a token without a scope does not do what the scope is for, and no agent writes secrets", async () => {
  const bare = await tokenOf(agent, project, []);
  const calls: readonly (readonly [string, string, object?])[] = [
    ["POST", `/agents/${agent}/status`, { activity: "thinking" }],
    ["POST", `/agents/${agent}/token/refresh`],
    ["POST", `/agents/${agent}/outbound-message`, { msg: "hi", recipient: "user:ann@example.org" }],
    ["POST", `/projects/${project}/agents`, { name: "child" }],
    ["POST", `/agents/${agent}/stop`],
  ];
  expect(allOf(await statuses(calls, async (...call) => (await asAgent(bare, ...call)).status), 403)).toEqual([]);
  for (const path of [`/agents/${agent}/secrets/KEY`, "/secrets/KEY", `/projects/${project}/secrets/KEY`])
    expect([path, (await asAgent(agentToken, "PUT", path, { value: "x" })).status]).toEqual([path, 501]);
  // A token for GitHub is given to nobody: the hub does not have that part, whatever the scopes.
  for (const token of [bare, agentToken])
    expect((await asAgent(token, "POST", `/agents/${agent}/refresh-token`)).status).toBe(501);
});

test("weak point 27: agent:manage is what it says: an agent's life, neither its messages nor its inside", async () => {
  const mine = await makeAgent(ann, project, "managed");
  const made = await as(ann, "POST", "/auth/tokens", { name: "ci", projectId: project, scopes: ["agent:manage"] });
  const token = made.text("token");
  expect(made.get("accessToken.scopes")).not.toContain("agent:message");
  expect((await as(token, "POST", `/agents/${mine}/message`, { message: "hi" })).status).toBe(403);
  expect((await as(token, "POST", `/agents/${mine}/exec`, { command: ["id"] })).status).toBe(403);
  expect((await as(token, "GET", `/agents/${mine}/pty`)).status).toBe(403);
  for (const verb of ["stop", "start", "restart"])
    expect([verb, (await as(token, "POST", `/agents/${mine}/${verb}`)).status]).toEqual([verb, 200]);
  expect((await as(token, "DELETE", `/agents/${mine}`)).status).toBe(204);
});

test("weak point 30: an agent leaves its project for nothing: no reading, no deleting, no terminal, no groups", async () => {
  const calls: readonly (readonly [string, string, object?])[] = [
    ...CHANGES().filter(([, path]) => path.includes(agent) || path.includes(project)),
    ["GET", `/agents/${agent}`],
    ["GET", `/projects/${project}`],
    ["POST", `/agents/${agent}/message`, { message: "hi" }],
    ["GET", `/agents/${agent}/dispatches`],
  ];
  const found = await statuses(calls, async (...call) => (await asAgent(stranger.token, ...call)).status);
  expect(allOf(found, 403, 404)).toEqual([]);
  for (const path of [
    `/projects/${project}/workspace/files`,
    `/projects/${project}/dav/x`,
    `/agents/${agent}/workspace`,
  ])
    expect([path, (await asAgent(stranger.token, "GET", path)).status]).toEqual([path, 501]);
  const [group] = await scene.database.query<{ id: string }>(
    "select id from groups where project_id = $1 and group_type = 'explicit'",
    [project],
  );
  const members = `/groups/${group?.id}/members`;
  const body = { memberType: "agent", memberId: stranger.id, role: "owner" };
  expect((await asAgent(stranger.token, "POST", members, body)).status).toBeGreaterThanOrEqual(400);
  expect(
    await scene.database.query("select 1 from group_memberships where group_id = $1 and agent_id is not null", [
      group?.id,
    ]),
  ).toEqual([]);
});

test("weak point 31: an agent's status comes from itself, its runtime broker or an admin; a heartbeat from nobody else", async () => {
  const status = `/agents/${agent}/status`;
  const body = { phase: "error", message: "forged" };
  const sibling = await makeAgent(ann, project, "sibling");
  const siblings = await tokenOf(sibling, project, ALL_SCOPES);
  expect((await as(eve, "POST", status, body)).status).toBe(404);
  expect((await as(ann, "POST", status, body)).status).toBe(403);
  expect((await asAgent(siblings, "POST", status, body)).status).toBe(403);
  expect((await asAgent(stranger.token, "POST", status, body)).status).toBe(404);
  expect(await asRuntimeBroker(other, "POST", status, body)).toBe(404);
  // Nor in a heartbeat: what it says of agents that others run is not believed.
  const listed = { projectId: project, agents: [{ slug: "a1", phase: "error", message: "forged" }] };
  expect((await other.heartbeat({ status: "online", projects: [listed] })).status).toBe(200);
  expect((await as(ann, "GET", `/agents/${agent}`)).get("phase")).toBe("running");
  const heartbeat = `/runtime-brokers/${runtimeBroker.id}/heartbeat`;
  expect((await as(ann, "POST", heartbeat, { status: "offline" })).status).toBe(403);
  expect((await asAgent(agentToken, "POST", heartbeat, { status: "offline" })).status).toBe(403);
  expect(await asRuntimeBroker(other, "POST", heartbeat, { status: "offline" })).toBe(403);
  expect(await asRuntimeBroker(runtimeBroker, "POST", status, { activity: "working" })).toBe(200);
  expect((await asAgent(agentToken, "POST", status, { activity: "working" })).status).toBe(200);
});

test("weak point 32: the hub's own secrets are in no list, and no agent is told what there is", async () => {
  for (const path of ["/secrets", "/secrets?scope=hub", "/env", "/env?scope=hub", "/admin/audit", "/admin/invites"]) {
    const reply = await asAgent(agentToken, "GET", path);
    expect([path, reply.status]).toEqual([path, path.startsWith("/admin") ? 403 : 501]);
    expect(reply.body).not.toMatch(/signing_key|secret_key/);
  }
});

test("weak point 35: readiness answers a probe that has no credential, beside pages and metrics that ask for one", async () => {
  const anonymous = { headers: { authorization: "" } };
  for (const path of ["/readyz", "/healthz", "/health"])
    expect([path, (await api(b, "GET", path, undefined, anonymous)).status]).toEqual([path, 200]);
  expect((await api(b, "GET", "/metrics", undefined, anonymous)).status).toBe(401);
});
