import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import type { DispatchSummary, Trace } from "@rootstock/protocol";
import { createLog, type Log } from "@rootstock/service";
import {
  type ApiOptions,
  api,
  type CollectedSpan,
  compileCache,
  eventually,
  type Replica,
  type ReplicaProcess,
  recordText,
  runCommand,
  Scene,
  SpanCollector,
  startReplicaProcess,
  TEST_TOKEN,
} from "@rootstock/testkit";
import { startAgent, startMachine } from "./terminal/machine.ts";

/** "Where is my message": told by whichever replica is asked, and as spans below the caller's own trace. */

const TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER = "00f067aa0ba902b7";
const TRACEPARENT = `00-${TRACE_ID}-${CALLER}-01`;

let scene: Scene;
beforeEach(async () => {
  scene = await Scene.create();
});
afterEach(() => scene.end());

const process = async (name: string): Promise<ReplicaProcess> => {
  const replica = await startReplicaProcess({ databaseUrl: scene.database.url, name });
  scene.onEnd(async () => {
    replica.signal("SIGKILL");
    await replica.exited;
  });
  return replica;
};

const send = (replica: Replica, agent: string, msg: string, options: ApiOptions = {}) =>
  api(replica, "POST", `/api/v1/agents/${agent}/message`, { structured_message: { msg } }, options);

const traceOf = async (replica: Replica, messageId: string): Promise<Trace> =>
  (await api(replica, "GET", `/api/v1/messages/${messageId}/trace`)).json as Trace;

/** An agent's latest operations, newest first. */
const operationsOf = async (replica: Replica, agent: string): Promise<readonly DispatchSummary[]> =>
  ((await api(replica, "GET", `/api/v1/agents/${agent}/dispatches`)).json as { dispatches: DispatchSummary[] })
    .dispatches;

const operation = async (replica: Replica, id: string | undefined): Promise<Trace> =>
  (await api(replica, "GET", `/api/v1/dispatches/${id}`)).json as Trace;

/** `rootstock trace …`, as a person types it. */
const command = async (replica: Replica, ...args: readonly string[]): Promise<string> => {
  const rootstock = join(import.meta.dirname, "../node_modules/.bin/rootstock");
  const { PATH } = globalThis.process.env;
  const env = { PATH, ...compileCache, ROOTSTOCK_HUB_URL: replica.url, SCION_DEV_TOKEN: TEST_TOKEN };
  return (await runCommand(rootstock, ["trace", ...args], env)).stdout;
};

test("owner killed between claim and acknowledgement, of a message and of a start that it was asked for itself: attempt 1 there, given back because it died, attempt 2 elsewhere", async () => {
  const [a, b] = [await process("A"), await process("B")];
  const project = await scene.project(b);
  const credentials = await scene.join(a, "laptop");
  const before = await scene.connect(a, credentials, { redials: false });
  const agent = await scene.agent(b, project, "a1");
  const other = await scene.agent(b, project, "a2");
  await api(b, "POST", `/api/v1/agents/${other}/stop`);
  before.holdAnswers();
  const starting = api(a, "POST", `/api/v1/agents/${other}/start`);
  const sent = send(b, agent, "where am I?");
  await before.onRequest.next((r) => r.path.endsWith("/message"));
  await eventually(() => before.received.some((r) => r.path.endsWith("/start")));
  const first = before.session?.sessionId;
  a.signal("SIGKILL");
  await expect(starting).rejects.toThrow();
  const id = (await sent).text("message_id");
  // It comes back only when the dead replica is buried.
  await eventually(async () => (await traceOf(b, id)).state === "pending", 25_000);
  const waiting = await traceOf(b, id);
  expect(waiting.waiting?.reasons).toEqual([
    expect.stringMatching(/^owner unknown: waiting for reconnect of runtime broker laptop since \d{4}-.*Z$/),
  ]);
  expect(waiting.next.map((n) => n.event)).toEqual(["claimed", "failed"]);
  const [start] = await operationsOf(b, other);
  const given = await operation(b, start?.id);
  expect(given).toMatchObject({ op: "start", state: "pending", waiting: { reasons: waiting.waiting?.reasons } });
  expect(given.hops.at(-1)).toMatchObject({ event: "given_back", attempt: 1, reason: "its replica died" });
  expect(given.next).toMatchObject([{ event: "claimed" }, { event: "expired" }]);
  const again = await scene.connect(b, credentials);
  await eventually(async () => (await traceOf(b, id)).state === "delivered");
  const second = again.session?.sessionId;
  await eventually(async () => (await operation(b, start?.id)).state === "done");
  expect((await operation(b, start?.id)).hops).toMatchObject([
    { event: "accepted", replica: { name: "A" } },
    { event: "claimed", replica: { name: "A" }, session: first, attempt: 1 },
    { event: "given_back", replica: { name: "A" }, session: first, attempt: 1, reason: "its replica died" },
    { event: "claimed", replica: { name: "B" }, session: second, attempt: 2, waitedFor: "its replica died" },
    { event: "done", replica: { name: "B" }, session: second, attempt: 2 },
  ]);
  const trace = await traceOf(b, id);
  expect(trace.hops).toMatchObject([
    { event: "accepted", replica: { name: "B" } },
    { event: "claimed", replica: { name: "A" }, runtimeBroker: { name: "laptop" }, session: first, attempt: 1 },
    { event: "given_back", replica: { name: "A" }, session: first, attempt: 1, reason: "its replica died" },
    { event: "claimed", replica: { name: "B" }, session: second, attempt: 2, waitedFor: "its replica died" },
    { event: "delivered", replica: { name: "B" }, session: second, attempt: 2 },
  ]);
  const times = trace.hops.map((hop) => hop.at ?? "");
  expect([...times].sort()).toEqual(times);

  const text = await command(b, id);
  expect(text).toContain(`message ${id}, agent a1 (${agent}): delivered, attempts 2`);
  expect(text).toMatch(/given back +A \([0-9a-f-]{36}\) +laptop \([0-9a-f-]{36}\) +1 +[0-9a-f-]{36} +its replica died/);
  expect(JSON.parse(await command(b, id, "--json"))).toEqual(trace);
  expect(await command(b, start?.id ?? "")).toContain(`start ${start?.id}, agent a2 (${other}): done, attempts 2 of 3`);
  const nowhere = command(b, "0e0e0e0e-0000-4000-8000-00000000dead");
  await expect(nowhere).rejects.toMatchObject({
    code: 1,
    stderr: expect.stringContaining("no message and no operation"),
  });
});

test("a start that the owner of the socket has begun for a caller of its own can be traced while it runs, and so can what waits behind it", async () => {
  const [owner, entry] = [await scene.replica(), await scene.replica()];
  const runtimeBroker = await scene.runtimeBroker(owner);
  const agent = await scene.agent(owner, await scene.project(owner), "a1");
  expect((await api(owner, "POST", `/api/v1/agents/${agent}/stop`)).status).toBe(200);
  runtimeBroker.holdAnswers();
  const starting = api(owner, "POST", `/api/v1/agents/${agent}/start`);
  await runtimeBroker.onRequest.next((r) => r.path.endsWith("/start"));
  const operations = await operationsOf(entry, agent);
  expect(operations).toMatchObject([{ op: "start", state: "in_progress" }, { op: "stop" }, { op: "create" }]);
  const start = operations[0]?.id;
  const running = await operation(entry, start);
  expect(running.hops).toMatchObject([
    { event: "accepted", replica: { name: "replica-1" } },
    { event: "claimed", replica: { name: "replica-1" }, session: runtimeBroker.session?.sessionId, attempt: 1 },
  ]);
  expect(running.next.map((n) => n.event)).toEqual(["done", "failed", "given_back"]);
  const stopping = api(owner, "POST", `/api/v1/agents/${agent}/stop`);
  const [waits] = await eventually(async () => {
    const latest = await operationsOf(entry, agent);
    expect(latest[0]).toMatchObject({ op: "stop", state: "pending" });
    return latest;
  });
  const { waiting } = await operation(entry, waits?.id);
  expect(waiting?.reasons).toEqual([`behind the operation start (${start}), which is in_progress`]);
  runtimeBroker.releaseAnswers();
  expect([(await starting).status, (await stopping).status]).toEqual([200, 200]);
});

test("the agents of a deleted project are deleted on the account, and within the trace, of who deleted it", async () => {
  const [owner, entry] = [await scene.replica(), await scene.replica()];
  await scene.runtimeBroker(owner);
  const project = await scene.project(owner);
  for (const name of ["a1", "a2"]) await scene.agent(owner, project, name);
  const me = (await api(entry, "GET", "/api/v1/auth/me")).text("id");
  const headers = { traceparent: TRACEPARENT };
  expect((await api(entry, "DELETE", `/api/v1/projects/${project}`, undefined, { headers })).status).toBe(204);
  const rows = await scene.database.query(
    "select traceparent, created_by, state from broker_dispatch where op = 'delete'",
  );
  const deletion = { traceparent: TRACEPARENT, created_by: me, state: "done" };
  expect(rows).toEqual([deletion, deletion]);
});

/** The machine's log lines, read. */
const logOf = (): { readonly log: Log; readonly lines: Record<string, unknown>[] } => {
  const lines: Record<string, unknown>[] = [];
  const destination = {
    write: (line: string) => {
      lines.push(JSON.parse(line));
      recordText("machine", line);
    },
  };
  return { log: createLog({ level: "trace", destination }), lines };
};

const requestLine = (lines: readonly Record<string, unknown>[], action: string) =>
  lines.filter((l) => l.msg === "request" && String(l.path).endsWith(action));

test("a forwarded message, and a forwarded stop, is one trace across two replicas and in the runtime broker's log", async () => {
  const collector = await SpanCollector.start();
  scene.onEnd(() => collector.stop());
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint };
  const [owner, entry] = [await scene.replica(env), await scene.replica(env)];
  const project = await scene.project(entry);
  const { log, lines } = logOf();
  await startMachine(scene, owner, log);
  const agent = await startAgent(entry, project, "a1");
  await scene.ready(entry, agent);
  const headers = { traceparent: TRACEPARENT };
  const sent = await send(entry, agent, "follow me", { headers });
  expect(sent.status).toBe(200);
  expect((await api(entry, "POST", `/api/v1/agents/${agent}/stop`, {}, { headers })).status).toBe(200);

  const find = (name: string, parent: string | undefined) => {
    const found = collector.spans.find((s) => s.traceId === TRACE_ID && s.name === name && s.parentSpanId === parent);
    if (!found) throw new Error(`no span ${name} below ${parent}: ${JSON.stringify(collector.spans)}`);
    return found;
  };
  /** The spans of a call, each below the one before. */
  const chain = (...names: readonly string[]): readonly CollectedSpan[] => {
    const spans: CollectedSpan[] = [];
    for (const name of names) spans.push(find(name, spans.at(-1)?.spanId ?? CALLER));
    return spans;
  };
  const replicas = (spans: readonly CollectedSpan[]) => spans.map((s) => s.resource["service.instance.id"]);
  const [here, there] = [entry.hub.instanceId, owner.hub.instanceId];

  const message = await eventually(() =>
    chain("POST /api/v1/agents/:agentId/message", "commit message", "deliver message", "tunnel POST"),
  );
  expect(replicas(message)).toEqual([here, here, there, there]);
  expect(message.map((s) => s.kind)).toEqual([2, 4, 5, 3]);
  const stop = await eventually(() =>
    chain("POST /api/v1/agents/:agentId/stop", "commit stop", "dispatch stop", "tunnel POST"),
  );
  // The owner is asked for it, and commits it in the entry's name.
  expect(replicas(stop)).toEqual([here, there, there, there]);

  for (const [action, spans] of [
    ["/message", message],
    ["/stop", stop],
  ] as const)
    expect(requestLine(lines, action).map((l) => l.traceparent)).toEqual([`00-${TRACE_ID}-${spans[3]?.spanId}-01`]);
  const id = sent.text("message_id");
  expect(await traceOf(owner, id)).toMatchObject({ traceparent: `00-${TRACE_ID}-${message[1]?.spanId}-01` });
});

test("without a collector a caller's trace travels all the same, and none is made up", async () => {
  const [owner, entry] = [await scene.replica(), await scene.replica()];
  const project = await scene.project(entry);
  const { log, lines } = logOf();
  await startMachine(scene, owner, log);
  const agent = await startAgent(entry, project, "a1");
  await scene.ready(entry, agent);
  const followed = await send(entry, agent, "follow me", { headers: { traceparent: TRACEPARENT } });
  const broken = await send(entry, agent, "not me", { headers: { traceparent: "00-nonsense" } });
  const alone = await send(owner, agent, "nor me");
  expect(requestLine(lines, "/message").map((l) => l.traceparent)).toEqual([TRACEPARENT, undefined, undefined]);
  expect((await traceOf(owner, followed.text("message_id"))).traceparent).toBe(TRACEPARENT);
  const headers = { traceparent: TRACEPARENT };
  const ran = await api(entry, "POST", `/api/v1/agents/${agent}/exec`, { command: ["true"] }, { headers });
  expect(ran.status).toBe(200);
  expect(requestLine(lines, "/exec").map((l) => l.traceparent)).toEqual([TRACEPARENT]);
  for (const other of [broken, alone])
    expect(await traceOf(entry, other.text("message_id"))).not.toHaveProperty("traceparent");
});
