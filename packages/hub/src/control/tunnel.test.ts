import { expect, test } from "@jest/globals";
import { eventually } from "@rootstock/testkit";
import { ControlScene, message } from "./controlScene.testing.ts";
import { TunnelError } from "./index.ts";

/** Requests through the socket of a runtime broker, and their answers (spec/01 3.3, 3.6). */

const scene = new ControlScene();
const { connected } = scene;

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
