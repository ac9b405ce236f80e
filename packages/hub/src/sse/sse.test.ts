import { createServer, get, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { getRequestListener } from "@hono/node-server";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { systemClock, systemRandom } from "@rootstock/service";
import {
  createTestDatabase,
  eventually,
  type Seed,
  type StoreStack,
  seed,
  startStoreStack,
  type TestDatabase,
} from "@rootstock/testkit";
import { decodePosition, EventBus, encodePosition, parseSnapshot } from "../bus/index.ts";
import { agentMessageStream } from "./agentMessages.ts";
import { sseResponse } from "./response.ts";
import { SseHub, type SseHubOptions } from "./sseHub.ts";
import type { SseEnd, SseRequest } from "./sseStream.ts";

let db: TestDatabase;
let rows: Seed;
let stops: (() => Promise<void>)[] = [];

beforeEach(async () => {
  db = await createTestDatabase();
  rows = seed(db);
});
afterEach(async () => {
  for (const stop of stops.reverse()) await stop();
  stops = [];
  await db.drop();
});

interface Replica extends StoreStack {
  readonly bus: EventBus;
  readonly sse: SseHub;
}

const replica = async (options: Partial<SseHubOptions> = {}): Promise<Replica> => {
  const stack = await startStoreStack(db.url);
  stops.push(() => stack.stop());
  const bus = new EventBus(stack.base, stack);
  const sse = new SseHub(stack.base, { database: stack.database, bus, ...options });
  for (const service of [bus, sse]) {
    stops.push(() => service.stop());
    await service.start();
  }
  return { ...stack, bus, sse };
};

interface Frame {
  readonly id?: string;
  readonly event?: string;
  readonly data?: string;
  readonly retry?: string;
}

/** A client of one connection: what it was sent, and how it ended. */
const listen = (hub: SseHub, request: Partial<SseRequest> = {}) => {
  const frames: Frame[] = [];
  const gone = new AbortController();
  let text = "";
  const ended: Promise<SseEnd> = hub.open({
    patterns: [">"],
    allow: () => true,
    write: async (chunk) => {
      text += chunk;
      const parts = text.split("\n\n");
      text = parts.pop() ?? "";
      for (const part of parts)
        frames.push(Object.fromEntries(part.split("\n").map((line) => line.split(/: ?(.*)/s).slice(0, 2))));
    },
    signal: gone.signal,
    ...request,
  });
  return {
    frames,
    ended,
    close: () => gone.abort(),
    lastId: () => frames.findLast((f) => f.id !== undefined)?.id,
    updates: () =>
      frames
        .filter((f) => f.event === "update")
        .map((f): { subject: string; data: Record<string, unknown> } => JSON.parse(f.data ?? "")),
    named: (event: string) => frames.filter((f) => f.event === event),
  };
};

const names = (client: ReturnType<typeof listen>) => client.updates().map((u) => u.data.name);

test("invariant 7: events are resumable: a client that changes replicas in the middle of batches hears each once, in order", async () => {
  const replicas = await Promise.all([replica(), replica(), replica()]);
  const projects = await Promise.all(Array.from({ length: 5 }, () => rows.project({ name: "0" })));
  const rounds = 80;
  await replicas[0].bus.catchUp();
  const heard: { subject: string; data: Record<string, unknown> }[] = [];
  const first = listen(replicas[0].sse, { patterns: ["project.>"] });
  await eventually(() => first.lastId() !== undefined);
  let last = first.lastId();
  first.close();

  let writing = true;
  const write = async (project: string): Promise<void> => {
    for (let i = 0; i < rounds; i += 1) {
      // Several rows in one transaction make one batch.
      await db.query("update projects set name = (name::int + 1)::text where id = $1", [project]);
      replicas[i % 3]?.signaller.changed();
    }
  };
  const writers = Promise.all(projects.map(write)).then(() => {
    writing = false;
  });
  let hops = 0;
  while (writing || heard.length < projects.length * rounds) {
    const hub = replicas[hops % 3] ?? replicas[0];
    hops += 1;
    const take = 1 + Math.floor(systemRandom.fraction() * 20);
    const client = listen(hub.sse, { patterns: ["project.>"], lastEventId: last });
    await eventually(() => client.updates().length >= take || heard.length + client.updates().length >= 400);
    client.close();
    await client.ended;
    // Only what it had read when it was cut counts, up to any frame.
    let updates = 0;
    for (const frame of client.frames) {
      if (frame.event === "update") updates += 1;
      if (updates > take) break;
      last = frame.id ?? last;
    }
    heard.push(...client.updates().slice(0, take));
  }
  await writers;
  expect(hops).toBeGreaterThan(5);
  for (const project of projects) {
    const sequence = heard.filter((u) => u.data.projectId === project).map((u) => Number(u.data.name));
    expect(sequence).toEqual(Array.from({ length: rounds }, (_, i) => i + 1));
  }
});

test("a client that replays ahead of the replica's own reader does not hear it again from the reader", async () => {
  const [a, b] = [await replica(), await replica()];
  const before = listen(a.sse);
  await eventually(() => before.lastId() !== undefined);
  before.close();
  // Nobody signals: the readers follow with their polls.
  for (const name of ["one", "two"]) await rows.project({ name });
  const client = listen(b.sse, { lastEventId: before.lastId() });
  await eventually(() => names(client).length === 2);
  await rows.project({ name: "three" });
  await b.bus.catchUp();
  await rows.project({ name: "four" });
  await b.bus.catchUp();
  expect(names(client)).toEqual(["one", "two", "three", "four"]);
  const again = listen(a.sse, { lastEventId: client.frames.find((f) => f.data?.includes("two"))?.id });
  await eventually(() => names(again).length === 2);
  await a.bus.catchUp();
  expect(names(again)).toEqual(["three", "four"]);
});

test("the ids of heartbeats do not go back behind what a client has heard that is ahead of the replica's own reader", async () => {
  const [a, b] = [await replica(), await replica({ heartbeatMs: 20 })];
  const before = listen(a.sse);
  await eventually(() => before.lastId() !== undefined);
  before.close();
  // It reads no further.
  await b.bus.stop();
  for (const name of ["one", "two"]) await rows.project({ name });
  const client = listen(b.sse, { lastEventId: before.lastId() });
  await eventually(() => names(client).length === 2 && client.frames.at(-1)?.event === undefined);
  const again = listen(a.sse, { lastEventId: client.lastId() });
  await rows.project({ name: "three" });
  await a.bus.catchUp();
  await eventually(() => names(again).includes("three"));
  expect(names(again)).toEqual(["three"]);
});

test("a new client hears from now on, with an id to come back with before anything has happened", async () => {
  const r = await replica();
  await rows.project({ name: "before" });
  await r.bus.catchUp();
  const client = listen(r.sse);
  await eventually(() => client.lastId() !== undefined);
  expect(client.frames).toHaveLength(1);
  expect(Number(client.frames[0]?.retry)).toBeGreaterThanOrEqual(1000);
  client.close();
  expect(await client.ended).toBe("closed");
  await rows.project({ name: "while away" });
  const back = listen(r.sse, { lastEventId: client.lastId() });
  await eventually(() => names(back).length === 1);
  expect(names(back)).toEqual(["while away"]);
});

test("overlapping patterns tell an event once, and every event is authorised when it is sent", async () => {
  const r = await replica();
  let allowed = true;
  const client = listen(r.sse, { patterns: ["project.>", "grove.>", ">"], allow: () => allowed });
  const broken = listen(r.sse, {
    allow: () => {
      throw new Error("no decision");
    },
  });
  const p = await rows.project({ name: "one" });
  await r.bus.catchUp();
  allowed = false;
  await rows.project({ name: "two" });
  await r.bus.catchUp();
  allowed = true;
  await rows.project({ name: "three" });
  await r.bus.catchUp();
  await eventually(() => client.updates().length === 2);
  expect(names(client)).toEqual(["one", "three"]);
  expect(client.updates()[0]?.subject).toBe(`project.${p}.created`);
  expect(broken.updates()).toEqual([]);
});

test("a client that hears nothing gets a new id with each heartbeat, so that its position is not pruned away", async () => {
  const r = await replica({ heartbeatMs: 30 });
  const client = listen(r.sse, { patterns: ["nobody.>"] });
  await eventually(() => client.frames.length > 2);
  const early = client.lastId();
  await rows.project();
  await r.bus.catchUp();
  await eventually(() => client.lastId() !== early);
  expect(client.updates()).toEqual([]);
  expect(client.frames.at(-1)).not.toHaveProperty("data");
  expect(client.frames.at(-1)).not.toHaveProperty("event");
  const back = listen(r.sse, { lastEventId: client.lastId() });
  await rows.project({ name: "next" });
  await r.bus.catchUp();
  await eventually(() => names(back).includes("next"));
  expect(names(back)).toEqual(["next"]);
});

test("pruned under a client that replays slowly: it is told to resync, in the stream, and hears what comes after", async () => {
  const r = await replica();
  const start = listen(r.sse);
  await eventually(() => start.lastId() !== undefined);
  start.close();
  await db.query(
    "insert into projects (id, name, slug) select gen_random_uuid(), 'n' || i, 's' || i from generate_series(1, 1200) i",
  );
  await r.bus.catchUp();
  let proceed = () => {};
  const held = new Promise<void>((resolve) => {
    proceed = resolve;
  });
  const frames: string[] = [];
  let writes = 0;
  const client = listen(r.sse, {
    lastEventId: start.lastId(),
    write: async (text) => {
      frames.push(text);
      writes += 1;
      if (writes === 2) await held;
    },
  });
  await eventually(() => writes === 2);
  await db.query("update feed_meta set pruned_tx = (select max(tx) from change_log)");
  await db.query("delete from change_log");
  proceed();
  await eventually(() => frames.join("").includes("event: resync"));
  const text = frames.join("");
  expect(text).toContain("event: resync\ndata: pruned\n");
  expect(text.split("event: update").length - 1).toBeLessThan(1200);
  // A transaction of another database that ends just now may void this position once more: what is lost is told each time.
  await eventually(async () => {
    await rows.project({ name: "afterwards" });
    await r.bus.catchUp();
    return frames.join("").includes("afterwards");
  });
  client.close();
});

test("ids of another history, of the future, or of anybody else: resync with a fresh id, and the stream goes on", async () => {
  const r = await replica();
  const probe = listen(r.sse);
  await eventually(() => probe.lastId() !== undefined);
  const own = decodePosition(probe.lastId() ?? "");
  if (!own) throw new Error("no id");
  const later = parseSnapshot(`${own.seen.xmax + 10n ** 9n}:${own.seen.xmax + 10n ** 9n}:`);
  if (!later) throw new Error("no snapshot");
  const cases: [string, string][] = [
    ["epoch", "17"],
    ["epoch", "garbage"],
    ["epoch", encodePosition({ ...own, epoch: systemRandom.uuid() })],
    ["future", encodePosition({ ...own, seen: later })],
    ["future", encodePosition({ ...own, page: { target: later, id: "1" } })],
  ];
  for (const [reason, lastEventId] of cases) {
    const client = listen(r.sse, { lastEventId });
    await eventually(() => client.named("resync").length === 1);
    expect(client.named("resync")[0]?.data).toBe(reason);
    const fresh = client.named("resync")[0]?.id;
    await rows.project({ name: reason });
    await r.bus.catchUp();
    await eventually(() => names(client).length === 1);
    client.close();
    const back = listen(r.sse, { lastEventId: fresh });
    await eventually(() => names(back).length === 1);
    expect(back.named("resync")).toEqual([]);
    back.close();
  }
});

test("a database restored under open streams: every client is told to resync, and goes on", async () => {
  const r = await replica();
  const client = listen(r.sse);
  await eventually(() => client.lastId() !== undefined);
  const old = client.lastId();
  await db.query("update feed_meta set epoch = gen_random_uuid()");
  await db.query("truncate change_log");
  await r.bus.catchUp();
  await eventually(() => client.named("resync").length === 1);
  await rows.project({ name: "new world" });
  await r.bus.catchUp();
  await eventually(() => names(client).length === 1);
  const back = listen(r.sse, { lastEventId: old });
  await eventually(() => back.named("resync").length === 1);
  expect(back.named("resync")[0]?.data).toBe("epoch");
});

test("a client that does not read is cut; the others hear on; it comes back and has lost nothing", async () => {
  const r = await replica({ limits: { frames: 20, characters: 1_000_000 } });
  const stuck = listen(r.sse, { write: () => new Promise(() => {}) });
  const well = listen(r.sse);
  await eventually(() => well.lastId() !== undefined);
  const start = well.lastId();
  for (let i = 0; i < 30; i += 1) {
    await rows.project({ name: `n${i}` });
    await r.bus.catchUp();
  }
  expect(await stuck.ended).toBe("overflow");
  await eventually(() => names(well).length === 30);
  expect(r.sse.count()).toBe(1);
  // More than the queue holds, at the client's own speed: a replay is not cut.
  const back = listen(r.sse, { lastEventId: start });
  await eventually(() => names(back).length === 30);
  expect(names(back)).toEqual(names(well));
});

test("a stopping replica ends its streams with a moment to wait, and takes no new ones", async () => {
  const r = await replica();
  const clients = Array.from({ length: 5 }, () => listen(r.sse));
  await eventually(() => clients.every((c) => c.lastId() !== undefined));
  await Promise.all([r.sse.stop(), r.sse.start(), r.sse.stop()]);
  expect(await Promise.all(clients.map((c) => c.ended))).toEqual(Array(5).fill("stopped"));
  expect(clients.every((c) => c.frames.at(-1)?.retry !== undefined)).toBe(true);
  expect(await listen(r.sse).ended).toBe("stopped");
  await r.sse.start();
  const client = listen(r.sse);
  await eventually(() => client.lastId() !== undefined);
});

test("the database away during a replay ends the stream, not the replica", async () => {
  const r = await replica();
  const start = listen(r.sse);
  await eventually(() => start.lastId() !== undefined);
  await db.query("alter table change_log rename to hidden");
  expect(await listen(r.sse, { lastEventId: start.lastId() }).ended).toBe("stopped");
  await db.query("alter table hidden rename to change_log");
  await rows.project({ name: "kept" });
  const back = listen(r.sse, { lastEventId: start.lastId() });
  await eventually(() => names(back).length === 1);
});

test("an agent's messages: only the caller's own, as message frames, until the time is over", async () => {
  const r = await replica();
  const p = await rows.project();
  const a = await rows.agent({ project_id: p });
  const [me, you] = [systemRandom.uuid(), systemRandom.uuid()];
  const client = listen(r.sse, { ...agentMessageStream({ agentId: a, userId: me }), expireAfterMs: 2_500 });
  const id = await rows.message({ project_id: p, agent_id: a, sender_id: a, recipient_id: me, msg: "for me" });
  await rows.message({ project_id: p, agent_id: a, sender_id: a, recipient_id: you, msg: "for you" });
  await db.query("update agents set phase = 'running' where id = $1", [a]);
  await r.bus.catchUp();
  expect(await client.ended).toBe("expired");
  expect(client.named("message").map((f) => JSON.parse(f.data ?? ""))).toMatchObject([
    { id, msg: "for me", agentId: a },
  ]);
  expect(client.updates()).toEqual([]);
  expect(client.frames.at(-1)).toMatchObject({ event: "timeout" });
});

test("over HTTP: the stream flows as it happens, and ends here when the client is gone", async () => {
  const r = await replica();
  const server = createServer(
    getRequestListener((request) =>
      sseResponse(r.sse, { patterns: ["project.>"], allow: () => true, signal: request.signal }),
    ),
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  stops.push(() => new Promise<void>((resolve) => server.close(() => resolve())));
  const { port } = server.address() as AddressInfo;
  const response = await new Promise<IncomingMessage>((resolve) => get({ port, host: "127.0.0.1" }, resolve));
  expect(response.headers["content-type"]).toBe("text/event-stream");
  expect(response.headers["x-accel-buffering"]).toBe("no");
  let text = "";
  response.on("data", (chunk: Buffer) => {
    text += chunk.toString();
  });
  response.on("error", () => {});
  await eventually(() => text.startsWith("retry: "));
  await rows.project({ name: "x".repeat(1500) });
  await r.bus.catchUp();
  await eventually(() => text.includes("x".repeat(1500)));
  expect(r.sse.count()).toBe(1);
  response.destroy();
  await eventually(() => r.sse.count() === 0);
});

test("rights that change all the time have a stream looked at now and then, and after the last change once more", async () => {
  const r = await replica();
  let asked = 0;
  let allowed = true;
  const client = listen(r.sse, {
    standsBy: new Set(["a"]),
    recheck: async () => {
      asked += 1;
      return allowed;
    },
  });
  await eventually(() => client.lastId() !== undefined);
  expect(asked).toBe(1);
  for (let i = 0; i < 50; i += 1) r.sse.recheck("a");
  r.sse.recheck("somebody else");
  await eventually(() => asked === 2);
  allowed = false;
  r.sse.recheck();
  expect(await client.ended).toBe("refused");
  expect(asked).toBe(3);
});

test("a stream lasts as long as what proves its client, even if that is longer than a timer may be", async () => {
  const r = await replica();
  const now = systemClock.now();
  const [short, long] = [listen(r.sse, { until: now + 300 }), listen(r.sse, { until: now + 90 * 86_400_000 })];
  expect(await short.ended).toBe("refused");
  expect(systemClock.now()).toBeGreaterThanOrEqual(now + 300);
  await rows.project({ name: "still here" });
  await r.bus.catchUp();
  await eventually(() => names(long).includes("still here"));
  long.close();
  expect(await long.ended).toBe("closed");
});
