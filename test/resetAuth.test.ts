import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { AGENT_TOKEN_HEADER } from "@rootstock/hub";
import {
  type ApiReply,
  api,
  eventually,
  type InProcessReplica,
  type ReceivedRequest,
  type Replica,
  type ReplicaProcess,
  Scene,
  SimulatedAgents,
  type SimulatedReply,
  type SimulatedRuntimeBroker,
  startReplicaProcess,
  testLogin,
} from "@rootstock/testkit";

/** New tokens for agents, whichever replica is asked and whichever dies (spec/03 6.8). */

const ENV = { ROOTSTOCK_TEST_LOGIN: "1" };
const ALL = "/api/v1/admin/agents/reset-auth-all";
let scene: Scene;
let owner: InProcessReplica;
let entry: InProcessReplica;
let project: string;
let runtimeBroker: SimulatedRuntimeBroker & { readonly id: string };
/** What the runtime broker answers to a reset; by default what the well-behaved one does. */
let onReset: (request: ReceivedRequest) => SimulatedReply | undefined | Promise<SimulatedReply | undefined>;

const behaved = () => {
  const agents = new SimulatedAgents();
  return async (request: ReceivedRequest): Promise<SimulatedReply> => {
    const reply = request.path.endsWith("/reset-auth") ? await onReset(request) : undefined;
    return reply ?? agents.handle(request);
  };
};

beforeEach(async () => {
  onReset = () => undefined;
  scene = await Scene.create();
  [owner, entry] = [await scene.replica(ENV), await scene.replica(ENV)];
  project = await scene.project(owner);
  runtimeBroker = await scene.runtimeBroker(owner, { handle: behaved() });
});
afterEach(() => scene.end());

const textOf = (value: unknown, name: string): string => String(Reflect.get(Object(value), name));
const createdWith = (slug: string): string =>
  textOf(runtimeBroker.received.find((r) => textOf(r.json, "slug") === slug)?.json, "agentToken");
const resets = (): readonly ReceivedRequest[] => runtimeBroker.received.filter((r) => r.path.endsWith("/reset-auth"));
const newestToken = (): string => textOf(resets().at(-1)?.json, "token");
const statusOf = (replica: Replica, token: string) =>
  api(replica, "GET", "/api/v1/auth/me", undefined, { headers: { authorization: "", [AGENT_TOKEN_HEADER]: token } });
const isGood = async (token: string): Promise<boolean[]> =>
  Promise.all([owner, entry].map(async (replica) => (await statusOf(replica, token)).status === 200));
const refreshed = (agent: string, token: string): Promise<ApiReply> =>
  api(entry, "POST", `/api/v1/agents/${agent}/token/refresh`, undefined, {
    headers: { authorization: "", [AGENT_TOKEN_HEADER]: token },
  });

test("weak point 26: the route that the CLI calls works at any replica, and voids every older token", async () => {
  const agent = await scene.agent(owner, project, "a1");
  const first = createdWith("a1");
  const older = (await refreshed(agent, first)).text("token");
  for (const [replica, path] of [
    [entry, `/api/v1/projects/${project}/agents/a1/reset-auth`],
    [owner, `/api/v1/groves/${project}/agents/a1/reset-auth`],
    [entry, `/api/v1/agents/${agent}/reset-auth`],
  ] as const) {
    const before = resets().length;
    const answer = await api(replica, "POST", path);
    expect([answer.status, answer.json]).toEqual([200, { message: "authentication of agent a1 was reset" }]);
    expect(resets()).toHaveLength(before + 1);
    expect(await isGood(newestToken())).toEqual([true, true]);
  }
  const [one, two] = resets().map((r) => textOf(r.json, "token"));
  for (const token of [first, older, one ?? "", two ?? ""]) expect(await isGood(token)).toEqual([false, false]);
  expect((await refreshed(agent, newestToken())).status).toBe(200);
});

test("the new token counts before the runtime broker has confirmed it, and the old one until then", async () => {
  const agent = await scene.agent(owner, project, "a1");
  const old = createdWith("a1");
  let during: boolean[][] = [];
  let next = "";
  onReset = async ({ json }) => {
    const token = textOf(json, "token");
    next = (await refreshed(agent, token)).text("token");
    during = [await isGood(token), await isGood(old), await isGood(next)];
    return undefined;
  };
  expect((await api(entry, "POST", `/api/v1/agents/${agent}/reset-auth`)).status).toBe(200);
  expect(during).toEqual([
    [true, true],
    [true, true],
    [true, true],
  ]);
  // What it got for the new one before the confirmation is no worse than the new one.
  expect([await isGood(newestToken()), await isGood(next), await isGood(old)]).toEqual([
    [true, true],
    [true, true],
    [false, false],
  ]);
});

test("a refused reset changes nothing, and the next one that is confirmed voids what it may have left behind", async () => {
  const agent = await scene.agent(owner, project, "a1");
  const old = createdWith("a1");
  onReset = () => ({ status: 500, body: { error: { code: "internal_error", message: "no such container" } } });
  const refusal = await api(entry, "POST", `/api/v1/agents/${agent}/reset-auth`);
  expect([refusal.status, refusal.get("error.code")]).toEqual([502, "runtime_error"]);
  expect(await isGood(old)).toEqual([true, true]);
  const lost = newestToken();
  onReset = () => undefined;
  expect((await api(owner, "POST", `/api/v1/agents/${agent}/reset-auth`)).status).toBe(200);
  expect([await isGood(old), await isGood(lost), await isGood(newestToken())]).toEqual([
    [false, false],
    [false, false],
    [true, true],
  ]);
});

test("an agent that does not run has its tokens void at once, a lost one of a reset included; its next start brings a good one", async () => {
  const agent = await scene.agent(owner, project, "a1");
  const path = `/api/v1/agents/${agent}`;
  onReset = () => ({ status: 500 });
  await api(entry, "POST", `${path}/reset-auth`);
  const lost = newestToken();
  await api(entry, "POST", `${path}/stop`);
  const count = resets().length;
  const answer = await api(entry, "POST", `${path}/reset-auth`);
  expect([answer.status, resets().length]).toEqual([200, count]);
  expect([await isGood(createdWith("a1")), await isGood(lost)]).toEqual([
    [false, false],
    [false, false],
  ]);
  await api(entry, "POST", `${path}/start`);
  const started = runtimeBroker.received.findLast((r) => r.path.endsWith("/start"));
  const env = Reflect.get(Object(started?.json), "resolvedEnv");
  expect(await isGood(textOf(env, "SCION_AUTH_TOKEN"))).toEqual([true, true]);
});

test("one call that is repeated with its key is one reset", async () => {
  const agent = await scene.agent(owner, project, "a1");
  const keyed = (replica: Replica) =>
    api(replica, "POST", `/api/v1/agents/${agent}/reset-auth`, undefined, { headers: { "idempotency-key": "k1" } });
  expect((await keyed(entry)).status).toBe(200);
  expect((await keyed(owner)).json).toEqual({ message: "authentication of agent a1 was reset" });
  expect(resets()).toHaveLength(1);
});

test("all at once: a report per agent, those out of reach among them, and one work, in one trace, however many ask for it", async () => {
  const other = await scene.runtimeBroker(entry, { name: "other" });
  const gone = await scene.runtimeBroker(entry, { name: "gone" });
  for (const slug of ["a1", "a2", "a3"]) await scene.agent(owner, project, slug, runtimeBroker.id);
  const refused = await scene.agent(owner, project, "b1", runtimeBroker.id);
  await scene.agent(owner, project, "c1", other.id);
  const away = await scene.agent(owner, project, "d1", gone.id);
  await gone.stop();
  await scene.database.query(
    "update runtime_brokers set disconnected_at = now() - interval '1 hour', connected_hub_id = null, connected_session_id = null where id = $1",
    [gone.id],
  );
  onReset = ({ path }) => (path.includes("/b1/") ? { status: 500 } : undefined);
  const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  const begin = (replica: Replica) => api(replica, "POST", ALL, undefined, { headers: { traceparent } });
  const answers = await Promise.all([owner, entry, entry].map(begin));
  const [report] = answers;
  expect(answers.map((a) => a.status)).toEqual([200, 200, 200]);
  expect(new Set(answers.map((a) => a.text("id"))).size).toBe(1);
  expect(report?.json).toMatchObject({ state: "finished", total: 6, pending: 0, failedCount: 2 });
  expect(report?.list("succeeded").map((a) => textOf(a, "name"))).toEqual(["a1", "a2", "a3", "c1"]);
  expect(report?.list("failed")).toEqual([
    { id: refused, name: "b1", error: expect.stringContaining("500") },
    { id: away, name: "d1", error: expect.stringContaining("not connected") },
  ]);
  for (const slug of ["a1", "a2", "a3"]) expect(await isGood(createdWith(slug))).toEqual([false, false]);
  expect(resets().map((r) => r.headers.traceparent)).toEqual(Array(4).fill(traceparent));
  const again = await api(owner, "GET", `${ALL}/${report?.text("id")}`);
  expect([again.status, again.json]).toEqual([200, report?.json]);
  const listed = await api(entry, "GET", ALL);
  expect(listed.json).toMatchObject({ totalCount: 1, items: [{ id: report?.text("id"), total: 6, failedCount: 2 }] });
});

test("nobody runs, nobody but an admin may ask, and what is not there is not found", async () => {
  expect((await api(entry, "POST", ALL)).json).toMatchObject({ succeeded: null, failed: null, total: 0 });
  const member = { token: (await testLogin(entry, { email: "ann@example.org" })).text("accessToken") };
  for (const method of ["POST", "GET"]) expect((await api(entry, method, ALL, undefined, member)).status).toBe(403);
  expect((await api(entry, "GET", `${ALL}/no-uuid`)).status).toBe(404);
  expect((await api(entry, "GET", `${ALL}/${project}`)).status).toBe(404);
});

test("more than a thousand agents", async () => {
  const count = 1_100;
  await scene.database.query(
    `insert into agents (id, project_id, slug, name, phase, runtime_broker_id)
     select gen_random_uuid(), $1, 'n' || i, 'n' || i, 'running', $2 from generate_series(1, $3::int) i`,
    [project, runtimeBroker.id, count],
  );
  let answer = await api(entry, "POST", ALL);
  const path = `${ALL}/${answer.text("id")}`;
  await eventually(async () => {
    answer = await api(entry, "GET", path);
    return answer.get("state") === "finished";
  }, 240_000);
  expect(answer.list("succeeded")).toHaveLength(count);
  const [row] = await scene.database.query("select count(*)::int as n from agents where token_version = 2");
  expect(row?.n).toBe(count);
}, 270_000);

test("the replica that was at it dies: another goes on, and nobody is left out", async () => {
  const doomed = await startReplicaProcess({ databaseUrl: scene.database.url, name: "doomed" });
  scene.onEnd(() => end(doomed));
  let place = doomed.url;
  const there = await scene.runtimeBroker(owner, { name: "there", hubUrl: () => place, handle: behaved() });
  const agents = await Promise.all(
    Array.from({ length: 12 }, (_, i) => scene.agent(entry, project, `e${i}`, there.id)),
  );
  // Nobody else is there to do it.
  await Promise.all([owner.stop(), entry.stop()]);
  let seen = 0;
  onReset = async () => {
    seen += 1;
    if (seen === 6) await end(doomed);
    return undefined;
  };
  await expect(api(doomed, "POST", ALL)).rejects.toThrow();
  const heir = await scene.replica();
  place = heir.url;
  const [begun] = await scene.database.query("select id from auth_resets");
  let answer = await api(heir, "GET", `${ALL}/${begun?.id}`);
  expect(answer.get("state")).toBe("running");
  await eventually(async () => {
    answer = await api(heir, "GET", `${ALL}/${begun?.id}`);
    return answer.get("state") === "finished";
  }, 60_000);
  expect(answer.json).toMatchObject({ total: agents.length, failed: null });
  const [row] = await scene.database.query("select count(*)::int as n from agents where token_version > 1");
  expect(row?.n).toBe(agents.length);
});

const end = async (replica: ReplicaProcess): Promise<void> => {
  replica.signal("SIGKILL");
  await replica.exited;
};
