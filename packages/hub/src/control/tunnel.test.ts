import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { type Clock, silentLog, systemClock, systemRandom } from "@rootstock/service";
import { transaction } from "@rootstock/store";
import {
  createTestDatabase,
  eventually,
  type SimulatedCredentials,
  SimulatedRuntimeBroker,
  type SimulatedRuntimeBrokerOptions,
  type TestDatabase,
} from "@rootstock/testkit";
import { type ControlPlane, rotateSecret, seedRuntimeBroker, startControlPlane } from "./controlPlane.testing.ts";
import type { Connection, ControlOptions } from "./index.ts";
import { CONTROL_DEFAULTS, TunnelError } from "./index.ts";

let database: TestDatabase;
let planes: ControlPlane[];
let simulated: SimulatedRuntimeBroker[];

beforeEach(async () => {
  database = await createTestDatabase();
  planes = [];
  simulated = [];
});

afterEach(async () => {
  await Promise.all(simulated.map((s) => s.stop()));
  await Promise.all(planes.map((p) => p.stop()));
  await database.drop();
});

interface Connected {
  readonly plane: ControlPlane;
  readonly credentials: SimulatedCredentials;
  readonly broker: SimulatedRuntimeBroker;
  /** The present connection. */
  readonly connection: () => Promise<Connection>;
}

const connected = async (
  options: Partial<SimulatedRuntimeBrokerOptions> = {},
  control: Partial<ControlOptions> = {},
  clock: Clock = systemClock,
): Promise<Connected> => {
  const plane = await startControlPlane(database, control, { clock, random: systemRandom, log: silentLog() });
  planes.push(plane);
  const credentials = await seedRuntimeBroker(plane, `machine-${planes.length}`);
  const broker = new SimulatedRuntimeBroker({ hubUrl: plane.url, credentials, firstRetryMs: 20, ...options });
  simulated.push(broker);
  await broker.connect();
  const connection = () =>
    eventually(() => {
      const found = plane.registry.get(credentials.brokerId);
      if (!found) throw new Error("not connected");
      return found;
    });
  return { plane, credentials, broker, connection };
};

/** A second machine on the same control plane, which dials once. */
const dialAnother = async (plane: ControlPlane): Promise<SimulatedRuntimeBroker> => {
  const credentials = await seedRuntimeBroker(plane, "another");
  const broker = new SimulatedRuntimeBroker({ hubUrl: plane.url, credentials, redials: false });
  simulated.push(broker);
  await broker.connect();
  await eventually(() => plane.registry.get(credentials.brokerId) !== undefined);
  return broker;
};

const message = (agent: string, text = "hello") => ({
  method: "POST",
  path: `/api/v1/agents/${agent}/message`,
  query: "projectId=p1",
  body: { structured_message: { msg: text } },
});

test("a request is signed, carries its body, and its answer comes back", async () => {
  const { broker, connection } = await connected({
    handle: () => ({ status: 418, body: { a: "ä" }, headers: { "X-Kind": "tea" } }),
  });
  const response = await (await connection()).call(message("a", "grüße"));
  expect(response.status).toBe(418);
  expect(response.headers["x-kind"]).toBe("tea");
  expect(JSON.parse(response.body.toString())).toEqual({ a: "ä" });
  expect(broker.received).toHaveLength(1);
  expect(broker.received[0]).toMatchObject({
    rawQuery: "projectId=p1",
    json: { structured_message: { msg: "grüße" } },
  });
});

test("an empty answer has no body", async () => {
  const { connection } = await connected();
  expect(await (await connection()).call(message("a"))).toEqual({ status: 200, headers: {}, body: Buffer.alloc(0) });
});

test("towards an unmodified runtime broker one request is on the wire, and lifecycle goes ahead of messages", async () => {
  const { broker, connection } = await connected();
  const to = await connection();
  broker.holdAnswers();
  const first = broker.onRequest.next();
  const calls = [to.call(message("a", "1")), to.call(message("b", "2")), to.call(message("c", "3"))];
  calls.push(to.call({ method: "POST", path: "/api/v1/agents/d/stop", priority: "lifecycle" }));
  await first;
  expect(to.inFlight()).toBe(1);
  expect(to.queued()).toBe(3);
  broker.releaseAnswers();
  await Promise.all(calls);
  expect(broker.received.map((r) => r.path.split("/")[4])).toEqual(["a", "d", "b", "c"]);
});

test("our own runtime broker gets as many requests at once as it says", async () => {
  const { broker, connection } = await connected({ like: "rootstock", concurrentRequests: 3 });
  const to = await connection();
  expect(to.limits).toEqual({
    concurrentRequests: 3,
    maxFrameBytes: 1_048_576,
    remembersMessages: true,
    serial: false,
    streamCredits: true,
    logStreams: true,
  });
  broker.holdAnswers();
  const calls = ["a", "b", "c", "d"].map((agent) => to.call(message(agent)));
  await eventually(() => broker.received.length === 3);
  expect([to.inFlight(), to.queued()]).toEqual([3, 1]);
  broker.releaseAnswers();
  await Promise.all(calls);
  expect(broker.received).toHaveLength(4);
});

test("a runtime broker that never says `connect` is taken for an unmodified one", async () => {
  const { connection } = await connected({ sendsConnect: false }, { connectWaitMs: 50 });
  const to = await connection();
  expect(to.limits.concurrentRequests).toBe(1);
  expect((await to.call(message("a"))).status).toBe(200);
});

test("a request larger than the runtime broker reads is refused before it is sent; the channel lives on", async () => {
  const { broker, connection } = await connected();
  const to = await connection();
  await expect(to.call(message("a", "x".repeat(60_000)))).rejects.toMatchObject({ kind: "too_large" });
  expect((await to.call(message("a", "x".repeat(40_000)))).status).toBe(200);
  expect([broker.received.length, broker.closes.length]).toEqual([1, 0]);
});

test("a frame of exactly the limit passes", async () => {
  const { broker, connection } = await connected();
  const to = await connection();
  const fits = async (bytes: number): Promise<boolean> => {
    try {
      await to.call({ method: "POST", path: "/api/v1/agents/a/message", body: Buffer.alloc(bytes, "x") });
      return true;
    } catch (err) {
      if (err instanceof TunnelError && err.kind === "too_large") return false;
      throw err;
    }
  };
  let [low, high] = [40_000, 60_000];
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (await fits(middle)) low = middle;
    else high = middle;
  }
  expect(await fits(low)).toBe(true);
  expect(broker.closes).toEqual([]);
});

test("answers larger than 64 KiB are read; ours keeps to 1 MiB", async () => {
  const log = "x".repeat(3_000_000);
  const unmodified = await connected({ handle: () => ({ status: 200, body: log }) });
  const response = await (await unmodified.connection()).call({ method: "GET", path: "/api/v1/agents/a/logs" });
  expect(response.body.byteLength).toBe(3_000_000);
  const ours = await connected({ like: "rootstock", handle: () => ({ status: 200, body: log }), redials: false });
  const lost = (await ours.connection()).call({ method: "GET", path: "/api/v1/agents/a/logs" });
  await expect(lost).rejects.toMatchObject({ kind: "lost" });
  await eventually(() => ours.broker.closes[0]?.code === 1009);
});

test("a request that outlasts the silence limit survives, and the channel with it", async () => {
  let ahead = 0;
  const clock = { ...systemClock, elapsed: () => systemClock.elapsed() + ahead };
  const { plane, broker, connection } = await connected({}, {}, clock);
  const idle = await dialAnother(plane);
  const to = await connection();
  broker.holdAnswers();
  const arrived = broker.onRequest.next();
  const call = to.call({ method: "POST", path: "/api/v1/agents", body: { name: "a" } });
  await arrived;
  idle.stopReading();
  // Past the silence limit, within that of a request: the other socket's end shows that all were looked at.
  ahead = 100_000;
  await eventually(() => plane.registry.size === 1);
  broker.releaseAnswers();
  expect((await call).status).toBe(201);
  expect([broker.closes.length, broker.sessions.length]).toEqual([0, 1]);
});

test("a request that is never answered does not keep a dead socket for ever", async () => {
  let ahead = 0;
  const clock = { ...systemClock, elapsed: () => systemClock.elapsed() + ahead };
  const { plane, broker, connection } = await connected({ redials: false }, {}, clock);
  const to = await connection();
  broker.holdAnswers();
  const arrived = broker.onRequest.next();
  const call = to.call(message("a"));
  await arrived;
  ahead = CONTROL_DEFAULTS.requestLimitMs + CONTROL_DEFAULTS.silenceLimitMs + 1_000;
  await expect(call).rejects.toMatchObject({ kind: "lost" });
  expect(plane.registry.size).toBe(0);
});

test("a silent runtime broker without a request is given up", async () => {
  const { broker, plane, connection } = await connected(
    { redials: false },
    { pingIntervalMs: 30, silenceLimitMs: 150 },
  );
  await connection();
  broker.stopReading();
  await eventually(() => plane.registry.size === 0);
});

test("a runtime broker that reads nothing while bytes wait for it is given up", async () => {
  const { broker, plane, connection } = await connected(
    { like: "rootstock", concurrentRequests: 64, redials: false },
    { writeLimitMs: 150 },
  );
  const to = await connection();
  broker.stopReading();
  const calls = Array.from({ length: 40 }, () => to.call(message("a", "x".repeat(700_000))));
  const outcomes = await Promise.allSettled(calls);
  expect(outcomes.every((o) => o.status === "rejected" && o.reason.kind === "lost")).toBe(true);
  expect(plane.registry.size).toBe(0);
});

test("pings are answered, so an idle socket stays", async () => {
  const { broker, connection } = await connected({}, { pingIntervalMs: 20, silenceLimitMs: 100 });
  await connection();
  for (let i = 0; i < 15; i += 1) await broker.onPing.next();
  expect([broker.closes.length, broker.sessions.length]).toEqual([0, 1]);
});

test("a request past its limit is in doubt; one that waited behind it was not sent; the place stays taken", async () => {
  const { broker, connection } = await connected();
  const to = await connection();
  broker.holdAnswers();
  const slow = to.call({ ...message("a"), timeoutMs: 100 });
  const behind = to.call({ ...message("b"), timeoutMs: 100 });
  await expect(slow).rejects.toMatchObject({ kind: "timeout" });
  await expect(behind).rejects.toMatchObject({ kind: "not_sent" });
  const patient = to.call(message("c"));
  expect([to.inFlight(), to.queued()]).toEqual([1, 1]);
  broker.releaseAnswers();
  expect((await patient).status).toBe(200);
  expect(broker.received.map((r) => r.path.split("/")[4])).toEqual(["a", "c"]);
});

test("room on the wire is told of when nothing in line takes it", async () => {
  const { plane, broker, connection } = await connected();
  const to = await connection();
  const rooms: number[] = [];
  plane.registry.onRoom((c) => rooms.push(c.inFlight()));
  broker.holdAnswers();
  const calls = ["a", "b", "c"].map((agent) => to.call(message(agent)));
  broker.releaseAnswers();
  await Promise.all(calls);
  expect(rooms).toEqual([0]);
  await to.call(message("d"));
  expect(rooms).toEqual([0, 0]);
});

test("when the socket is lost, what was sent is in doubt and what waited was not sent", async () => {
  const { broker, connection } = await connected();
  const to = await connection();
  broker.holdAnswers();
  const arrived = broker.onRequest.next();
  const [sent, waiting] = [to.call(message("a")), to.call(message("b"))];
  await arrived;
  broker.cut();
  await expect(sent).rejects.toMatchObject({ kind: "lost" });
  await expect(waiting).rejects.toMatchObject({ kind: "not_sent" });
  await expect(to.call(message("c"))).rejects.toMatchObject({ kind: "not_sent" });
});

test("a caller that goes away leaves the queue, and what is on the wire goes on", async () => {
  const { broker, connection } = await connected();
  const to = await connection();
  broker.holdAnswers();
  const gone = new AbortController();
  const arrived = broker.onRequest.next();
  const sent = to.call({ ...message("a"), signal: gone.signal });
  const waiting = to.call({ ...message("b"), signal: gone.signal });
  await arrived;
  gone.abort();
  await expect(sent).rejects.toMatchObject({ kind: "lost" });
  await expect(waiting).rejects.toMatchObject({ kind: "not_sent" });
  broker.releaseAnswers();
  expect((await to.call(message("c"))).status).toBe(200);
  expect(broker.received.map((r) => r.path.split("/")[4])).toEqual(["a", "c"]);
});

test("garbage of every kind neither crashes nor disturbs", async () => {
  const { broker, connection } = await connected();
  const to = await connection();
  for (const text of [
    "",
    "{",
    "null",
    "[]",
    "17",
    '"text"',
    "{}",
    '{"type":null}',
    '{"type":"connect"}',
    '{"type":"connect","brokerId":7,"rootstock":{"concurrentRequests":-1}}',
    '{"type":"response"}',
    '{"type":"response","requestId":"nobody","statusCode":200}',
    '{"type":"stream","streamId":"nobody","data":"!!"}',
    '{"type":"stream","streamId":{}}',
    '{"type":"stream_close"}',
    '{"type":"event","event":"heartbeat"}',
    '{"type":"__proto__"}',
    `{"type":"${"x".repeat(100_000)}"}`,
  ])
    broker.sendRaw(text);
  broker.sendRaw(systemRandom.bytes(10_000));
  broker.sendRaw(Buffer.from('{"type":"ping","timestamp":1}'));
  await broker.onFrame.next((frame) => frame.type === "pong");
  expect((await to.call(message("a"))).status).toBe(200);
  expect(broker.sessions).toHaveLength(1);
});

test.each([
  ["status", { statusCode: "fine" }],
  ["status", { statusCode: 7 }],
  ["headers", { statusCode: 200, headers: { a: 1 } }],
  ["body", { statusCode: 200, body: "!!!" }],
])("an answer with a malformed %s ends the wait at once, in doubt", async (_, answer) => {
  const { broker, connection } = await connected();
  const to = await connection();
  broker.holdAnswers();
  broker.onRequest.on((r) => broker.sendFrame({ type: "response", requestId: r.requestId, ...answer }));
  await expect(to.call(message("a"))).rejects.toMatchObject({ kind: "lost" });
});

test("a frame beyond every limit closes the channel and nothing else", async () => {
  const { broker, plane, connection } = await connected({ redials: false }, { legacyMaxReplyBytes: 100_000 });
  await connection();
  broker.sendRaw("x".repeat(200_000));
  await eventually(() => plane.registry.size === 0);
  await eventually(() => broker.closes.length > 0);
  expect(broker.closes[0]?.code).toBe(1009);
});

test("rotation: requests are signed with the key of the socket, then once with the former, which is kept in mind", async () => {
  const { plane, broker, credentials, connection } = await connected();
  const former = credentials.secretKey;
  const present = await rotateSecret(plane, credentials.brokerId, 0);
  // Registered anew while it runs: it dials with the new key and verifies with the old one until it restarts.
  await broker.stop();
  const again = new SimulatedRuntimeBroker({
    hubUrl: plane.url,
    credentials: { brokerId: credentials.brokerId, secretKey: present },
    verifyingKeys: [former],
  });
  simulated.push(again);
  await again.connect();
  await eventually(() => plane.registry.get(credentials.brokerId)?.sessionId === again.session?.sessionId);
  const to = await connection();
  expect((await to.call(message("a"))).status).toBe(200);
  expect(again.received).toHaveLength(2);
  expect((await to.call(message("b"))).status).toBe(200);
  expect(again.received).toHaveLength(3);
  expect(again.delivered.map((d) => d.agent)).toEqual(["a", "b"]);
  // With no key that it accepts, the refusal is the answer.
  again.verifyingKeys = [];
  expect((await to.call(message("c"))).status).toBe(401);
});

test("rotation: during the grace both keys dial, after it only the new one", async () => {
  const { plane, broker, credentials } = await connected();
  await broker.stop();
  const present = await rotateSecret(plane, credentials.brokerId, 60_000);
  const dial = async (secretKey: string): Promise<number> => {
    const one = new SimulatedRuntimeBroker({
      hubUrl: plane.url,
      credentials: { brokerId: credentials.brokerId, secretKey },
      redials: false,
    });
    simulated.push(one);
    const outcome = Promise.race([one.onSession.next().then(() => 101), one.onRefusedDial.next()]);
    void one.connect();
    const status = await outcome;
    await one.stop();
    return status;
  };
  expect([await dial(credentials.secretKey), await dial(present)]).toEqual([101, 101]);
  await database.query("update broker_secrets set expires_at = now() where status = 'deprecated'");
  expect([await dial(credentials.secretKey), await dial(present)]).toEqual([401, 101]);
});

test("invariant 8: a dial replayed at another replica is refused", async () => {
  const { broker, credentials, plane } = await connected({ redials: false });
  const other = await startControlPlane(database);
  planes.push(other);
  const path = "/api/v1/runtime-brokers/connect";
  const headers = {
    ...broker.sign("GET", path, "", Buffer.alloc(0)),
    connection: "Upgrade",
    upgrade: "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": systemRandom.bytes(16).toString("base64"),
  };
  expect(await upgrade(plane.url, path, headers)).toBe(101);
  expect(await upgrade(plane.url, path, headers)).toBe(401);
  expect(await upgrade(other.url, path, headers)).toBe(401);
  const { "X-Scion-Signature": _, ...unsigned } = headers as Record<string, string>;
  expect(await upgrade(other.url, path, unsigned)).toBe(401);
  expect(await upgrade(other.url, path, { ...headers, "sec-websocket-key": "short" })).toBe(400);
  const [nonces] = await database.query<{ n: number }>(
    "select count(*)::int as n from seen_nonces where runtime_broker_id = $1",
    [credentials.brokerId],
  );
  // The first dial's and the replayed one's: nothing that failed to verify was recorded.
  expect(nonces?.n).toBe(2);
});

test("streams: opened, fed in frames that fit, closed from either side and with the socket", async () => {
  const { broker, connection } = await connected();
  const to = await connection();
  const open = async () => {
    const opened = broker.onFrame.next((f) => f.type === "stream_open");
    const [data, ends]: [Buffer[], unknown[]] = [[], []];
    const handle = to.openStream(
      { streamType: "pty", slug: "a", projectId: "p1", cols: 80, rows: 24 },
      { onData: (bytes) => data.push(bytes), onTaken: () => {}, onClose: (end) => ends.push(end) },
    );
    expect(await opened).toMatchObject({
      streamId: handle.streamId,
      slug: "a",
      projectId: "p1",
      groveId: "p1",
      cols: 80,
    });
    return { handle, data, ends };
  };
  const first = await open();
  broker.sendFrame({ type: "stream", streamId: first.handle.streamId, data: Buffer.from("$ ").toString("base64") });
  await eventually(() => first.data.length === 1);
  expect(first.data[0]?.toString()).toBe("$ ");

  const pasted = Buffer.alloc(200_000, "x");
  const pieces: Buffer[] = [];
  broker.onFrame.on((f) => {
    if (f.type === "stream") pieces.push(Buffer.from(String(f.data), "base64"));
  });
  expect(first.handle.write(pasted)).toBe(true);
  await eventually(() => Buffer.concat(pieces).equals(pasted));
  broker.sendFrame({ type: "stream_close", streamId: first.handle.streamId, reason: "session ended", code: 0 });
  await eventually(() => first.ends.length === 1);
  expect(first.ends).toEqual([{ reason: "session ended", code: 0 }]);
  expect(first.handle.write(Buffer.from("x"))).toBe(false);

  const second = await open();
  const closed = broker.onFrame.next((f) => f.type === "stream_close");
  second.handle.close("done");
  expect(await closed).toMatchObject({ streamId: second.handle.streamId, reason: "done" });
  const third = await open();
  broker.cut();
  await eventually(() => third.ends.length === 1);
  expect([second.ends.length, broker.received.length]).toEqual([1, 0]);
});

test("a reader of a stream that fails disturbs nobody else", async () => {
  const { broker, connection } = await connected();
  const to = await connection();
  const opened = broker.onFrame.next((f) => f.type === "stream_open");
  to.openStream(
    { streamType: "pty", slug: "a", projectId: "p1", cols: 80, rows: 24 },
    {
      onData: () => {
        throw new Error("no room");
      },
      onTaken: () => {},
      onClose: () => {},
    },
  );
  const { streamId } = await opened;
  broker.sendFrame({ type: "stream", streamId, data: "eA==" });
  expect((await to.call(message("a"))).status).toBe(200);
});

test("a secret in the database cannot be read without the shared secret", async () => {
  const { plane, credentials } = await connected();
  const rows = await transaction(plane.database.db, (tx) => tx.selectFrom("broker_secrets").select("secret").execute());
  expect(rows[0]?.secret.includes(Buffer.from(credentials.secretKey, "base64"))).toBe(false);
});

/** The status that an upgrade is answered with. */
const upgrade = async (url: string, path: string, headers: Record<string, string>): Promise<number> => {
  const { request } = await import("node:http");
  return new Promise((resolve, reject) => {
    const sent = request(`${url}${path}`, { headers });
    sent.on("upgrade", (response, socket) => {
      socket.destroy();
      resolve(response.statusCode ?? 0);
    });
    sent.on("response", (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    sent.on("error", reject);
    sent.end();
  });
};
