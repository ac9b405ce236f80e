import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { systemClock } from "@rootstock/service";
import {
  api,
  type EventStream,
  eventually,
  openEventStream,
  type ReplicaProcess,
  Scene,
  SimulatedTerminals,
  startReplicaProcess,
  TerminalClient,
  type TransactionPooler,
  transactionPoolers,
} from "@rootstock/testkit";

/**
 * Three replicas behind a pooler of transactions: as it is meant, with the session connections past it, and in the
 * misconfiguration where they go through it as well. There LISTEN hears nothing and advisory locks belong to nobody.
 */

/** Server connections of the pooler: fewer than one for each of the replicas' own. */
const SERVER_CONNECTIONS = 10;
/** What a poll that replaces signals may cost, four times a second, generously. */
const BOUND_MS = 5_000;

interface Arrangement {
  readonly arrangement: string;
  readonly direct: boolean;
}

const ARRANGEMENTS: readonly Arrangement[] = [
  { arrangement: "the session connections past it", direct: true },
  { arrangement: "all connections through it", direct: false },
];

let scene: Scene;
let pooler: TransactionPooler;
let owner: ReplicaProcess;
let entry: ReplicaProcess;
let third: ReplicaProcess;

const textsOf = (delivered: readonly { readonly body: unknown }[]): unknown[] =>
  delivered.map((d) => Reflect.get(Object(Reflect.get(Object(d.body), "structured_message")), "msg"));

const send = (replica: { readonly url: string }, agent: string, msg: string, key?: string) =>
  api(
    replica,
    "POST",
    `/api/v1/agents/${agent}/message`,
    { structured_message: { msg } },
    key === undefined ? {} : { headers: { "idempotency-key": key } },
  );

const subjectsOf = (events: EventStream): string[] =>
  events.updates().map((u) => String(Reflect.get(Object(u.data), "subject")));

const replica = async (name: string, direct: boolean): Promise<ReplicaProcess> => {
  const process = await startReplicaProcess({
    databaseUrl: pooler.url,
    ...(direct && { directUrl: scene.database.url }),
    name,
    env: { ROOTSTOCK_STREAM_RELAY: "postgres" },
  });
  scene.onEnd(async () => {
    process.signal("SIGKILL");
    await process.exited;
  });
  return process;
};

describe.each(transactionPoolers())("$name", ({ start }) => {
  describe.each(ARRANGEMENTS)("$arrangement", ({ direct }) => {
    beforeAll(async () => {
      scene = await Scene.create();
      pooler = await start(scene.database.url, SERVER_CONNECTIONS);
      scene.onEnd(() => pooler.stop());
      owner = await replica("one", direct);
      [entry, third] = await Promise.all([replica("two", direct), replica("three", direct)]);
    }, 120_000);
    afterAll(() => scene.end(), 60_000);

    test("readiness and metrics say whether signals and locks mean anything", async () => {
      const state = direct ? "ok" : "degraded";
      for (const r of [owner, entry, third])
        await eventually(async () => {
          const ready = await api(r, "GET", "/readyz");
          expect([ready.status, ready.get("checks.signals"), ready.get("checks.coordination")]).toEqual([
            200,
            state,
            state,
          ]);
          const { body } = await api(r, "GET", "/metrics");
          expect(body).toContain(`rootstock_signals_degraded ${direct ? 0 : 1}`);
          expect(body).toContain(`rootstock_coordination_degraded ${direct ? 0 : 1}`);
        });
    });

    test("messages, lifecycle, events, terminals and sweeps work from any replica", async () => {
      const project = await scene.project(entry, "everything");
      const runtimeBroker = await scene.runtimeBroker(owner);
      const terminals = new SimulatedTerminals(runtimeBroker, { credits: true });
      const agent = await scene.agent(entry, project, "a1", runtimeBroker.id);
      const events = await openEventStream(third, { patterns: [`agent.${agent}.>`] });
      scene.onEnd(() => events.close());

      const texts = Array.from({ length: 20 }, (_, i) => `m${i}`);
      for (const [i, text] of texts.entries()) {
        const began = systemClock.elapsed();
        expect((await send([owner, entry, third][i % 3] ?? entry, agent, text)).status).toBe(200);
        expect(systemClock.elapsed() - began).toBeLessThan(BOUND_MS);
      }
      expect(textsOf(runtimeBroker.delivered)).toEqual(texts);

      const stopped = await api(entry, "POST", `/api/v1/agents/${agent}/stop`);
      expect([stopped.status, stopped.get("phase")]).toEqual([200, "stopped"]);
      const started = await api(third, "POST", `/api/v1/agents/${agent}/start`);
      expect([started.status, started.get("phase")]).toEqual([200, "running"]);
      await scene.ready(entry, agent);

      const client = await TerminalClient.attach(entry, agent);
      scene.onEnd(async () => client.cut());
      const terminal = await terminals.nth(0);
      terminal.print("from the other side");
      await client.shows("from the other side");
      client.type("and back");
      await eventually(() => terminal.input().includes("and back"));
      terminal.close(0, "session ended");
      expect(await client.closed).toEqual({ code: 1000, reason: "session ended" });

      // Each exactly once: what it was told, and what became of it.
      await eventually(() => {
        const subjects = subjectsOf(events);
        expect(subjects.filter((s) => s.endsWith(".message"))).toHaveLength(texts.length);
        expect(subjects.at(-1)).toBe(`agent.${agent}.status`);
      });

      await runtimeBroker.stop();
      await eventually(async () => {
        const found = await api(third, "GET", `/api/v1/runtime-brokers/${runtimeBroker.id}`);
        expect(found.get("status")).toBe("offline");
      }, 30_000);
    }, 90_000);

    test("the pooler is restarted under load, then the owner is killed: nothing accepted is lost or out of order", async () => {
      const project = await scene.project(entry, "restart");
      const place = { url: owner.url };
      const runtimeBroker = await scene.runtimeBroker(owner, { hubUrl: () => place.url });
      const agent = await scene.agent(entry, project, "a1", runtimeBroker.id);
      const accepted: string[] = [];
      const refused: number[] = [];
      let sending = true;
      const load = (async () => {
        for (let i = 0; sending; i += 1) {
          const text = `m${i}`;
          const to = i % 2 ? entry : third;
          // Told "unavailable" or "unknown", a client repeats the call with its key until it knows.
          for (;;) {
            const reply = await send(to, agent, text, text);
            if (reply.status < 300) break;
            refused.push(reply.status);
            expect(reply.status).toBe(503);
          }
          accepted.push(text);
        }
      })();
      await eventually(() => accepted.length >= 5);
      await pooler.restart();
      const then = accepted.length;
      await eventually(() => accepted.length >= then + 5);
      for (const r of [owner, entry, third])
        await eventually(async () => (await api(r, "GET", "/readyz")).status === 200);
      expect(runtimeBroker.closes).toEqual([]);

      const killedAt = systemClock.elapsed();
      place.url = entry.url;
      owner.signal("SIGKILL");
      await eventually(async () => (await scene.database.query("select 1 from hub_replicas")).length === 2, 40_000);
      // Without a lock that means anything, the lease alone tells: 10 s, and the reaper's look.
      expect(systemClock.elapsed() - killedAt).toBeLessThan(30_000);
      sending = false;
      await load;
      await eventually(() => textsOf(runtimeBroker.delivered).length === accepted.length);
      expect(textsOf(runtimeBroker.delivered)).toEqual(accepted);
      await eventually(async () => {
        const open = await scene.database.query("select id from messages where state <> 'delivered'");
        expect(open).toEqual([]);
      });
    }, 90_000);
  });
});
