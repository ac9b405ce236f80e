import { expect, test } from "@jest/globals";
import { ApiReply, api, eventually, LogClient, type Replica, type TerminalClient } from "@rootstock/testkit";
import { type Stage, Stages, WAYS } from "./stage.ts";

/** Clients and runtime brokers that go in the middle of a stream: both ends are closed with a reason, and nothing stays (design section 10). */

const stages = new Stages();

interface Opened {
  readonly terminals: readonly TerminalClient[];
  readonly logs: readonly LogClient[];
}

const PER_WAY = 8;

/** Terminals and followed logs through every replica, each of which has shown something. */
const openMany = async (s: Stage): Promise<Opened> => {
  const before = s.terminals.opened.length;
  const terminals: TerminalClient[] = [];
  const logs: LogClient[] = [];
  for (const where of WAYS)
    for (let n = 0; n < PER_WAY; n += 1) {
      terminals.push(await stages.attach(s[where], s.agent));
      const log = await LogClient.follow(s[where], s.agent);
      if (log instanceof ApiReply) throw new Error(log.body);
      logs.push(log);
    }
  await s.terminals.nth(before + 2 * WAYS.length * PER_WAY - 1);
  for (const terminal of s.terminals.opened.slice(before)) terminal.print("shown\n");
  await Promise.all([...terminals, ...logs].map((client) => client.shows("shown")));
  return { terminals, logs };
};

const gauge = async (replica: Replica, name: string): Promise<number> => {
  const { body } = await api(replica, "GET", "/metrics");
  return Number(new RegExp(`^rootstock_${name} (\\d+)$`, "m").exec(body)?.[1]);
};

/** Streams that replicas count as open, those at runtime brokers, and frames that lie in the database. */
const openStreams = async (): Promise<readonly number[]> => {
  const { owner, entry, detour } = stages.replicas;
  const [{ frames } = {}] = await stages.scene.database.query<{ frames: number }>(
    "select count(*)::int as frames from stream_frames",
  );
  return [
    await gauge(owner, "streams"),
    await gauge(entry, "streams"),
    await gauge(detour, "streams"),
    await gauge(owner, "runtime_broker_streams"),
    frames ?? Number.NaN,
  ];
};

const NOTHING = [0, 0, 0, 0, 0];

test("clients leave, vanish, and break the protocol: nothing stays", async () => {
  const s = await stages.stage();
  const { terminals, logs } = await openMany(s);
  const [owner, entry, detour, atRuntimeBroker] = await openStreams();
  expect(atRuntimeBroker).toBe(2 * WAYS.length * PER_WAY);
  // The viewers of this replica, and on the owner what it serves to the others.
  expect([owner, entry, detour]).toEqual([6 * PER_WAY, 4 * PER_WAY, 4 * PER_WAY]);
  for (const [n, client] of terminals.entries()) {
    if (n % 3 === 0) client.close(1000);
    else if (n % 3 === 1) client.cut();
    else client.sendRaw("nonsense");
  }
  for (const client of logs) client.cut();
  const ends = await Promise.all(s.terminals.opened.map((terminal) => terminal.closed));
  expect(new Set(ends.map((end) => end.reason))).toEqual(new Set(["session closed"]));
  await eventually(async () => expect(await openStreams()).toEqual(NOTHING));
});

test("the runtime broker is cut off again and again: every client hears why, and nothing stays", async () => {
  const s = await stages.stage();
  for (let round = 0; round < 3; round += 1) {
    const { terminals, logs } = await openMany(s);
    const back = s.runtimeBroker.onSession.next();
    s.runtimeBroker.cut();
    for (const client of terminals) expect(await client.closed).toEqual({ code: 4503, reason: "broker_disconnected" });
    for (const client of logs) {
      expect(await client.ended).toBe(true);
      expect(client.others).toMatchObject([{ event: "error", data: { reason: "broker_disconnected" } }]);
    }
    await eventually(async () => expect(await openStreams()).toEqual(NOTHING));
    await back;
    await eventually(async () => (await api(s.entry, "GET", `/api/v1/agents/${s.agent}/pty`)).status === 200);
  }
});

test("viewers that come while the runtime broker goes: each is refused or closed, and nothing stays", async () => {
  const s = await stages.stage();
  for (let round = 0; round < 3; round += 1) {
    const coming = WAYS.flatMap((where) => Array.from({ length: 4 }, () => stages.attach(s[where], s.agent)));
    const back = s.runtimeBroker.onSession.next();
    s.runtimeBroker.cut();
    for (const outcome of await Promise.allSettled(coming)) {
      if (outcome.status === "fulfilled") outcome.value.cut();
    }
    await back;
  }
  await eventually(async () => expect(await openStreams()).toEqual(NOTHING));
});
