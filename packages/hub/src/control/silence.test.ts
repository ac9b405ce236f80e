import { expect, test } from "@jest/globals";
import { systemClock } from "@rootstock/service";
import { eventually } from "@rootstock/testkit";
import { ControlScene, message } from "./controlScene.testing.ts";
import { CONTROL_DEFAULTS } from "./index.ts";

/** How long a socket of which nothing is heard counts as alive (spec/01 3.4). */

const scene = new ControlScene();
const { connected, dialAnother } = scene;

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
  // As long as a machine may stand still for others' sake: this process is the one that hears nothing then.
  const { broker, connection } = await connected({}, { pingIntervalMs: 20, silenceLimitMs: 600 });
  await connection();
  for (let i = 0; i < 60; i += 1) await broker.onPing.next();
  expect([broker.closes.length, broker.sessions.length]).toEqual([0, 1]);
});
