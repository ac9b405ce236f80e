import { createServer, type Server } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { afterAll, afterEach, beforeAll, expect, test } from "@jest/globals";
import { HubError, type Uuid } from "@rootstock/protocol";
import { createTestStore, eventually, type TestStore, testBase } from "@rootstock/testkit";
import { WebSocket } from "ws";
import { NOBODY } from "../auth/index.ts";
import { type AnswersPeer, CalledByPeers } from "./calledByPeers.ts";
import { MAX_CALLS_UNDER_WAY } from "./peerCallFrames.ts";
import { PeerCalls } from "./peerCalls.ts";

/** Calls between two replicas, over a real socket. A token here is "from > to". */

const base = testBase();
const { random } = base;
const HEADER = "x-rootstock-replica-token";
let store: TestStore;
let lockKeys = 1;
const ends: (() => Promise<void>)[] = [];

beforeAll(async () => {
  store = await createTestStore();
});
afterAll(() => store.drop());
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

interface Replica {
  readonly instanceId: Uuid;
  readonly calls: PeerCalls;
  readonly answering: CalledByPeers;
  readonly url: string;
  /** How often it was dialled, and what it was asked in HTTP. */
  readonly dialled: () => number;
  readonly posted: string[];
  /** Leaves whoever dials waiting until what it gives is called. */
  readonly holdDials: () => () => void;
  readonly connections: () => number;
  readonly cut: () => void;
  readonly close: () => Promise<void>;
}

const replica = async (answers: Readonly<Record<string, AnswersPeer>> = {}): Promise<Replica> => {
  const instanceId = random.uuid();
  const answering = new CalledByPeers(base, {
    answers,
    authenticate: async ({ headers }) => {
      const token = headers.get(HEADER);
      if (token === null) return NOBODY;
      const [from = "", to] = token.split(" > ");
      if (to !== instanceId) throw new HubError("unauthorized", "invalid replica token");
      return { kind: "replica", instanceId: from };
    },
    toError: (err) => (err instanceof HubError ? err : new HubError("internal_error", "failed", { cause: err })),
    met: () => {},
    refused: () => {},
    serving: () => true,
    answered: () => {},
  });
  const posted: string[] = [];
  const server: Server = createServer((request, response) => {
    posted.push(request.url ?? "");
    request.resume();
    response.writeHead(409).end();
  });
  let dialled = 0;
  const sockets = new Set<Socket>();
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  let accepting = Promise.resolve();
  let held = false;
  server.on("upgrade", (request, socket, head) => {
    dialled += 1;
    // Whoever gives up is noticed.
    if (held) socket.resume().once("end", () => socket.destroy());
    void accepting.then(() => answering.handleUpgrade(request, socket, head));
  });
  const holdDials = () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    accepting = promise;
    held = true;
    return resolve;
  };
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  await answering.start();
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const calls = new PeerCalls(base, {
    db: store.db,
    tokens: { issue: async (audience) => `${instanceId} > ${audience}` },
  });
  await calls.start();
  await store.db
    .insertInto("hub_replicas")
    .values({ instance_id: instanceId, lock_key: `${lockKeys++}`, name: "r", internal_url: url, version: "1" })
    .execute();
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  const close = async () => {
    cut();
    await new Promise((resolve) => server.close(resolve));
  };
  ends.push(async () => {
    await Promise.all([calls.stop(), answering.stop()]);
    await close();
  });
  return {
    instanceId,
    calls,
    answering,
    url,
    dialled: () => dialled,
    posted,
    holdDials,
    connections: () => sockets.size,
    cut,
    close,
  };
};

const ask = (from: Replica, to: Replica, body: object, timeoutMs = 10_000) =>
  from.calls.call(to.instanceId, { name: "work", path: "/work", body, timeoutMs });

/** Answers when it is told to, in whatever order. */
const held = () => {
  const waiting = new Map<unknown, () => void>();
  const work: AnswersPeer = (body, caller) =>
    new Promise((resolve) => {
      const { n } = body as { n: number };
      waiting.set(n, () => resolve({ status: 200, body: { n, caller } }));
    });
  return { work, waiting, release: (n: number) => waiting.get(n)?.() };
};
const echo: AnswersPeer = async (body, caller) => ({ status: 200, body: { body, caller } });

test("one socket carries any number of calls, each with its own answer, in any order", async () => {
  const { work, waiting, release } = held();
  const [entry, owner] = [await replica(), await replica({ work })];
  const answers = Array.from({ length: 50 }, (_, n) => ask(entry, owner, { n }));
  await eventually(() => waiting.size === 50);
  for (let n = 49; n >= 0; n -= 1) release(n);
  const caller = entry.instanceId;
  expect(await Promise.all(answers)).toEqual(
    Array.from({ length: 50 }, (_, n) => ({ status: 200, body: { n, caller } })),
  );
  expect([owner.dialled(), owner.posted]).toEqual([1, []]);
});

test("two replicas call each other at once", async () => {
  const [a, b] = [await replica({ work: echo }), await replica({ work: echo })];
  const [fromA, fromB] = await Promise.all([ask(a, b, { n: 1 }), ask(b, a, { n: 2 })]);
  expect(fromA?.body).toEqual({ body: { n: 1 }, caller: a.instanceId });
  expect(fromB?.body).toEqual({ body: { n: 2 }, caller: b.instanceId });
});

test("what is refused comes back with its status, and what nobody knows is not found", async () => {
  const refuse: AnswersPeer = async () => {
    throw new HubError("conflict", "not here");
  };
  const [entry, owner] = [await replica(), await replica({ work: refuse })];
  expect((await ask(entry, owner, {}))?.status).toBe(409);
  const call = { path: "/none", body: {}, timeoutMs: 10_000 };
  for (const name of ["none", "constructor"])
    expect((await entry.calls.call(owner.instanceId, { name, ...call }))?.status).toBe(404);
});

test("an owner that dies in the middle of a call is not waited for, and dialled anew by the next", async () => {
  const { work, waiting, release } = held();
  const [entry, owner] = [await replica(), await replica({ work })];
  const lost = ask(entry, owner, { n: 1 }, 3_600_000);
  await eventually(() => waiting.size === 1);
  owner.cut();
  expect(await lost).toBeUndefined();
  const again = ask(entry, owner, { n: 2 });
  await eventually(() => waiting.size === 2);
  release(2);
  expect((await again)?.status).toBe(200);
  expect(owner.dialled()).toBe(2);
});

test("an owner that is gone is left alone", async () => {
  const [entry, owner] = [await replica(), await replica({ work: echo })];
  await owner.close();
  expect(await ask(entry, owner, {})).toBeUndefined();
  const started = base.clock.elapsed();
  for (let n = 0; n < 100; n += 1) expect(await ask(entry, owner, {})).toBeUndefined();
  expect(base.clock.elapsed() - started).toBeLessThan(5_000);
});

test("an owner that is slow to take a socket is waited for by nobody, and called as soon as it has", async () => {
  const [entry, owner] = [await replica(), await replica({ work: echo })];
  const accept = owner.holdDials();
  expect(await ask(entry, owner, {})).toBeUndefined();
  const started = base.clock.elapsed();
  for (let n = 0; n < 100; n += 1) expect(await ask(entry, owner, {})).toBeUndefined();
  expect(base.clock.elapsed() - started).toBeLessThan(5_000);
  accept();
  await eventually(async () => (await ask(entry, owner, {}))?.status === 200, 5_000);
  expect([owner.dialled(), owner.posted]).toEqual([1, []]);
});

test("an owner that is slow is left alone, and what it answers late goes to nobody else", async () => {
  const { work, waiting, release } = held();
  const [entry, owner, other] = [await replica(), await replica({ work }), await replica({ work: echo })];
  expect(await ask(entry, owner, { n: 1 }, 20)).toBeUndefined();
  expect(await ask(entry, owner, { n: 2 })).toBeUndefined();
  release(1);
  expect([...waiting.keys()]).toEqual([1]);
  expect((await ask(entry, other, {}))?.status).toBe(200);
});

test("no more calls are under way over a socket than are bounded: the next goes another way at once", async () => {
  const { work, waiting, release } = held();
  const [entry, owner] = [await replica(), await replica({ work })];
  const answers = Array.from({ length: MAX_CALLS_UNDER_WAY }, (_, n) => ask(entry, owner, { n }));
  await eventually(() => waiting.size === MAX_CALLS_UNDER_WAY);
  expect(await ask(entry, owner, { n: -1 })).toBeUndefined();
  for (const n of waiting.keys()) release(Number(n));
  expect((await Promise.all(answers)).every((answer) => answer?.status === 200)).toBe(true);
  const next = ask(entry, owner, { n: -2 });
  await eventually(() => waiting.has(-2));
  release(-2);
  expect((await next)?.status).toBe(200);
});

test("one that stops answers what is under way, takes no more, and ends its sockets", async () => {
  const { work, waiting, release } = held();
  const [entry, owner] = [await replica(), await replica({ work })];
  const last = ask(entry, owner, { n: 1 });
  await eventually(() => waiting.size === 1);
  const stopped = owner.answering.stop();
  const late = ask(entry, owner, { n: 2 });
  expect((await late)?.status).toBe(503);
  release(1);
  expect((await last)?.status).toBe(200);
  await stopped;
  // Refused, it is asked in HTTP, which is served to the last.
  await eventually(async () => (await ask(entry, owner, {}))?.status === 409);
  expect(owner.posted.length).toBeGreaterThan(0);
});

test("a token for another replica, and none at all, open no socket", async () => {
  const owner = await replica({ work: echo });
  const status = (headers: Record<string, string>) =>
    new Promise((resolve) => {
      const ws = new WebSocket(`${owner.url.replace("http", "ws")}/internal/v1/calls`, { headers });
      ws.on("error", () => {});
      ws.once("unexpected-response", (_, { statusCode }) => {
        resolve(statusCode);
        ws.terminate();
      });
      ws.once("open", () => resolve(101));
    });
  expect(await status({})).toBe(401);
  expect(await status({ [HEADER]: `${random.uuid()} > ${random.uuid()}` })).toBe(401);
});

test.each([
  ["not JSON"],
  ["{}"],
  ['{"id":0,"call":"work"}'],
  ['{"id":"1","call":"work","body":{}}'],
  [Buffer.from("{}")],
])("what is no call ends the socket: %s", async (sent) => {
  const owner = await replica({ work: echo });
  const headers = { [HEADER]: `${random.uuid()} > ${owner.instanceId}` };
  const ws = new WebSocket(`${owner.url.replace("http", "ws")}/internal/v1/calls`, { headers });
  const closed = new Promise((resolve) => ws.once("close", resolve));
  ws.once("open", () => ws.send(sent));
  expect(await closed).toBe(4400);
});

test("one that stops gives up what it is still dialling", async () => {
  const [entry, owner] = [await replica(), await replica({ work: echo })];
  const accept = owner.holdDials();
  expect(await ask(entry, owner, {})).toBeUndefined();
  expect(owner.connections()).toBe(1);
  await entry.calls.stop();
  await eventually(() => owner.connections() === 0, 5_000);
  accept();
});

test("one that stops calls drops what it waits for", async () => {
  const { work, waiting } = held();
  const [entry, owner] = [await replica(), await replica({ work })];
  const dropped = ask(entry, owner, { n: 1 }, 3_600_000);
  await eventually(() => waiting.size === 1);
  await entry.calls.stop();
  expect(await dropped).toBeUndefined();
  expect(await ask(entry, owner, { n: 2 })).toBeUndefined();
});
