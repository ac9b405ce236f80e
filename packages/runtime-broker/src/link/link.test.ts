import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, expect, test } from "@jest/globals";
import { type Base, systemClock } from "@rootstock/service";
import { loadRuntimeBrokerConfig } from "../config.ts";
import { RuntimeBroker } from "../runtimeBroker.ts";
import { FakeHub } from "../testing/fakeHub.ts";
import { type Joined, joinedBroker, makeStateDirectory, testBase } from "../testing/setup.ts";
import { JoinRefused } from "./join.ts";

let joined: Joined | undefined;
const join_ = async (...args: Parameters<typeof joinedBroker>) => {
  joined = await joinedBroker(...args);
  return joined;
};
afterEach(async () => {
  await joined?.stop();
  joined = undefined;
});

test("joins with a token once and keeps the credentials where only this user can read them", async () => {
  const { hub, stateDirectory, restart } = await join_();
  const directory = join(stateDirectory, "hub-credentials");
  const [file = ""] = await readdir(directory);
  expect((await stat(directory)).mode & 0o777).toBe(0o700);
  expect((await stat(join(directory, file))).mode & 0o777).toBe(0o600);
  expect(hub.joins).toHaveLength(1);
  await restart();
  expect(hub.joins).toHaveLength(1);
});

test("a refused token fails the start with the hub's reason", async () => {
  const hub = new FakeHub();
  await hub.start();
  const state = await makeStateDirectory();
  const { brokerId } = hub.invite();
  const config = loadRuntimeBrokerConfig(
    {},
    { hubUrl: hub.url, brokerId, joinToken: "scion_join_x", stateDirectory: state.path },
  );
  const broker = new RuntimeBroker(testBase(), config);
  await expect(broker.start()).rejects.toThrow(JoinRefused);
  await broker.stop();
  await hub.stop();
  await state.clean();
});

test("a second runtime broker on one state directory is refused", async () => {
  const { config } = await join_();
  await expect(new RuntimeBroker(testBase(), config).start()).rejects.toThrow("another runtime broker");
});

test("says in connect what it can do", async () => {
  const { session, config } = await join_({ concurrency: "7" });
  expect(await session.connect()).toMatchObject({
    type: "connect",
    brokerId: config.brokerId,
    version: "0.1.0",
    rootstock: { concurrentRequests: 7, maxFrameBytes: 1_048_576, remembersMessages: true },
  });
});

test("answers pings with their timestamp", async () => {
  const { session } = await join_();
  session.send({ type: "ping", timestamp: 42 });
  expect(await session.until((f): f is typeof f & { type: "pong" } => f.type === "pong")).toMatchObject({
    timestamp: 42,
  });
});

test.each([1000, 1001, 1012, 1013])("dials again at once after close %i", async (code) => {
  const { hub, session } = await join_();
  const next = hub.connected.next();
  const closedAt = systemClock.elapsed();
  session.socket.close(code);
  await next;
  expect(systemClock.elapsed() - closedAt).toBeLessThan(900);
});

test("dials again at once after an abrupt end", async () => {
  const { hub, session } = await join_();
  const next = hub.connected.next();
  session.socket.terminate();
  await next;
});

test("a hub that refuses is dialled with growing, jittered pauses, and at once again after a success", async () => {
  const waits: number[] = [];
  const base: Base = {
    ...testBase(),
    clock: {
      ...systemClock,
      sleep: (ms, signal) => {
        if (ms === 30_000 || ms > 60_000) return systemClock.sleep(ms, signal);
        waits.push(ms);
        return Promise.resolve();
      },
    },
  };
  const { hub, session, broker } = await join_({}, { base });
  waits.length = 0;
  let dials = 0;
  const enough = new Promise<void>((resolve) => {
    broker.link.probes.dialFailed.on(() => {
      dials += 1;
      if (dials === 8) {
        hub.refuseDials = undefined;
        resolve();
      }
    });
  });
  hub.refuseDials = 503;
  const next = hub.connected.next();
  session.socket.terminate();
  await enough;
  await next;
  const bounds = [1, 2, 4, 8, 16, 32, 60, 60].map((s) => s * 1000);
  for (const [i, bound] of bounds.entries()) {
    expect(waits[i]).toBeGreaterThanOrEqual(bound / 2);
    expect(waits[i]).toBeLessThanOrEqual(bound);
  }
  expect(new Set(waits.slice(6, 8)).size).toBe(2);
});

test("a hub that ends every session at once is not hammered", async () => {
  const { hub, session, broker } = await join_();
  const waiting = new Promise<void>((resolve) => {
    let lost = 0;
    broker.link.probes.lost.on(() => {
      lost += 1;
      if (lost === 3) resolve();
    });
  });
  hub.connected.on((next) => next.socket.close(1000));
  session.socket.close(1000);
  await waiting;
  let dials = 0;
  hub.dialled.on(() => {
    dials += 1;
  });
  expect((await session.closed).code).toBe(1000);
  expect(dials).toBe(0);
});

test("garbage on the channel is dropped and the channel goes on", async () => {
  const { session } = await join_();
  for (const text of ["", "nonsense", "[]", "null", '{"type":7}', '{"type":"request"}', '{"type":"unheard_of"}']) {
    session.socket.send(text);
  }
  session.socket.send(Buffer.from([0xff, 0xfe, 0x00]));
  expect((await session.request("GET", "/healthz")).status).toBe(200);
});

test("a frame above the limit costs the channel, not the program", async () => {
  const { hub, session } = await join_();
  const next = hub.connected.next();
  session.socket.send(JSON.stringify({ type: "request", body: "A".repeat(1_100_000) }));
  expect((await session.closed).code).toBe(1009);
  expect((await (await next).request("GET", "/healthz")).status).toBe(200);
});

test("a hub that sends a request before connected is answered", async () => {
  const hub = new FakeHub();
  hub.sayConnected = false;
  const { session } = await join_({}, { hub });
  expect((await session.request("GET", "/healthz")).status).toBe(200);
  session.sayConnected(undefined);
  expect((await session.request("GET", "/api/v1/info")).status).toBe(200);
});

test("a stop closes the channel with 1000", async () => {
  const { session, broker } = await join_();
  await session.connect();
  await broker.stop();
  expect((await session.closed).code).toBe(1000);
});

test("a heartbeat comes at the start, without agents", async () => {
  const { hub } = await join_();
  expect(hub.heartbeats[0] ?? (await hub.heartbeat.next())).toEqual({ status: "online" });
});
