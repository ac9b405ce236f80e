import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, jest, test } from "@jest/globals";
import { systemClock, systemRandom } from "@rootstock/service";
import { eventually, testLog } from "@rootstock/testkit";
import { WebSocket, WebSocketServer } from "ws";
import type { AgentStream } from "./agentStream.ts";
import { NO_LONGER_ALLOWED } from "./closeCodes.ts";
import { Viewer, type ViewerOptions } from "./viewer.ts";

let server: WebSocketServer;
beforeEach(async () => {
  server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
  await once(server, "listening");
});
afterEach(() => {
  for (const ws of server.clients) ws.terminate();
  server.close();
});

interface Watching {
  readonly viewer: Viewer;
  readonly client: WebSocket;
  /** The viewer's end of the socket. */
  readonly ws: WebSocket;
  readonly closed: Promise<readonly [number, string]>;
  readonly sizes: number[];
  readonly pings: () => number;
  /** Lets time pass for the viewer, whose client gives no sign of life. */
  readonly silently: (ms: number) => void;
  /** Lets time pass while the client is heard of every 20 s. */
  readonly pass: (ms: number) => Promise<void>;
}

/** A viewer with its socket, at a terminal that keeps what it is told. */
const watching = async (options: Partial<ViewerOptions> = {}): Promise<Watching> => {
  const accepted = once(server, "connection");
  const client = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
  let pings = 0;
  client.on("ping", () => {
    pings += 1;
  });
  const closed = once(client, "close").then(([code, reason]) => [code, String(reason)] as const);
  const [ws] = await accepted;
  const sizes: number[] = [];
  let skew = 0;
  const clock = { ...systemClock, elapsed: () => systemClock.elapsed() + skew };
  const terminal: AgentStream = {
    write: () => {},
    resize: (cols) => sizes.push(cols),
    consumed: () => {},
    close: () => {},
  };
  const base = { clock, random: systemRandom, log: testLog() };
  const usual = { readonly: false, idleMs: 0, limitMs: 0, recheck: async () => undefined, onLeft: () => {} };
  const viewer = new Viewer(base, { ...usual, ...options });
  viewer.begin(ws, terminal);
  if (client.readyState !== client.OPEN) await once(client, "open");
  const silently = (ms: number) => {
    skew += ms;
    viewer.tick(clock.elapsed());
  };
  const pass = async (ms: number) => {
    for (let left = ms; left > 0; left -= 20_000) {
      silently(Math.min(left, 20_000));
      const heard = sizes.length + 1;
      client.send('{"type":"resize","cols":80,"rows":24}');
      await eventually(() => sizes.length >= heard || client.readyState !== client.OPEN);
    }
  };
  return { viewer, client, ws, closed, sizes, pings: () => pings, silently, pass };
};

test("pinged every 30 s, and dropped after 60 s without a sign of life", async () => {
  const { silently, pings, closed } = await watching();
  silently(29_000);
  silently(1_000);
  await eventually(() => pings() === 1);
  silently(60_001);
  expect((await closed)[0]).toBe(1006);
});

test("one whose typing waits for its program is asked for a sign of life often: nobody would hear them go", async () => {
  const { client, ws, silently } = await watching();
  const data = Buffer.alloc(32_768).toString("base64");
  for (let n = 0; n < 10; n += 1) client.send(JSON.stringify({ type: "data", data }));
  await eventually(() => ws.isPaused);
  const ping = jest.spyOn(ws, "ping");
  for (let n = 1; n <= 3; n += 1) {
    silently(5_000);
    expect(ping).toHaveBeenCalledTimes(n);
  }
  expect(ws.readyState).toBe(ws.OPEN);
});

test.each([401, 403, 404, 429])(
  "access that would be refused with %i now ends the session within a minute",
  async (status) => {
    const answers = [undefined, NO_LONGER_ALLOWED[status]];
    const { pass, closed } = await watching({ recheck: async () => answers.shift() });
    await pass(59_000);
    expect(answers).toHaveLength(2);
    await pass(1_000);
    expect(answers).toHaveLength(1);
    await pass(60_001);
    expect(await closed).toEqual([NO_LONGER_ALLOWED[status]?.code, NO_LONGER_ALLOWED[status]?.reason]);
  },
);

test("a look at the access that fails changes nothing", async () => {
  let asked = 0;
  const { viewer, client, pass } = await watching({
    recheck: async () => {
      asked += 1;
      throw new Error("the database is away");
    },
  });
  await pass(121_000);
  expect(asked).toBe(2);
  const shown = once(client, "message");
  viewer.onData(Buffer.from("still here"));
  expect(JSON.parse(String((await shown)[0])).type).toBe("data");
});

test("of many sizes in a row the first and the last are told", async () => {
  const state = await watching();
  for (let cols = 100; cols <= 200; cols += 1) state.client.send(JSON.stringify({ type: "resize", cols, rows: 10 }));
  await eventually(() => state.sizes.at(-1) === 200);
  expect(state.sizes[0]).toBe(100);
  expect(state.sizes.length).toBeLessThan(20);
});

test("a stream that ended before the socket was there closes it with its reason, after what it had shown", async () => {
  const accepted = once(server, "connection");
  const client = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const frames: unknown[] = [];
  client.on("message", (data) => frames.push(JSON.parse(String(data))));
  const closed = once(client, "close");
  const [ws] = await accepted;
  const base = { clock: systemClock, random: systemRandom, log: testLog() };
  let left = 0;
  const options = { readonly: false, idleMs: 0, limitMs: 0, recheck: async () => undefined };
  const viewer = new Viewer(base, {
    ...options,
    onLeft: () => {
      left += 1;
    },
  });
  viewer.onData(Buffer.from("last words"));
  viewer.onClose({ code: 0, reason: "session ended" });
  viewer.begin(ws, { write: () => {}, resize: () => {}, consumed: () => {}, close: () => {} });
  expect((await closed).map(String)).toEqual(["1000", "session ended"]);
  expect(frames).toEqual([{ type: "data", data: Buffer.from("last words").toString("base64") }]);
  await eventually(() => left === 1);
});

test("a reader that stopped, and reads on a while after its stream was closed at the bound, is told why", async () => {
  const accepted = once(server, "connection");
  const client = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const closed = once(client, "close");
  const [ws] = await accepted;
  if (client.readyState !== client.OPEN) await once(client, "open");
  client.pause();
  const timers: { readonly ms: number; readonly fn: () => void }[] = [];
  const after = (ms: number, fn: () => void) => {
    timers.push({ ms, fn });
    return { cancel: () => {} };
  };
  const base = { clock: { ...systemClock, after }, random: systemRandom, log: testLog() };
  const options = { readonly: false, idleMs: 0, limitMs: 0, recheck: async () => undefined, onLeft: () => {} };
  const viewer = new Viewer(base, options);
  viewer.begin(ws, { write: () => {}, resize: () => {}, consumed: () => {}, close: () => {} });
  for (let n = 0; n < 256; n += 1) viewer.onData(Buffer.alloc(65_536));
  viewer.onClose({ code: 1013, reason: "slow_consumer" });
  // What it will not read for a long time is not kept for it.
  expect(ws.bufferedAmount).toBeLessThan(1_048_576);
  for (const { ms, fn } of timers) if (ms <= 20_000) fn();
  client.resume();
  expect((await closed).map(String)).toEqual(["1013", "slow_consumer"]);
});
