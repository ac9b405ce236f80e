import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { systemClock } from "@rootstock/service";
import {
  api,
  eventually,
  openEventStream,
  type Replica,
  Scene,
  startReplicaProcess,
  transactionPoolers,
} from "@rootstock/testkit";

/**
 * Invariant 6 with whole replicas: their session connections, and only these, go through a pooler of transactions, behind
 * which LISTEN succeeds and hears nothing, and advisory locks guard nothing. All connections through it:
 * pooler.test.ts.
 */

let scene: Scene;
let pooled: string;

/** The poll of a replica that hears nothing, four times a second, and what it finds: generously. */
const BOUND_MS = 5_000;

const send = (replica: Replica, agent: string, msg: string) =>
  api(replica, "POST", `/api/v1/agents/${agent}/message`, { structured_message: { msg } });

const timed = async <T>(work: () => Promise<T>): Promise<{ readonly ms: number; readonly result: T }> => {
  const started = systemClock.elapsed();
  const result = await work();
  return { ms: systemClock.elapsed() - started, result };
};

const degraded = (replica: Replica) =>
  eventually(async () => {
    const ready = await api(replica, "GET", "/readyz");
    expect([ready.status, ready.get("checks.signals"), ready.get("checks.coordination")]).toEqual([
      200,
      "degraded",
      "degraded",
    ]);
  });

describe.each(transactionPoolers())("$name", (kind) => {
  beforeEach(async () => {
    scene = await Scene.create();
    const pooler = await kind.start(scene.database.url, 6);
    pooled = pooler.url;
    scene.onEnd(() => pooler.stop());
  });
  afterEach(() => scene.end());

  test("invariant 6: every NOTIFY dropped: messages, stops, creates and events still pass between replicas, within the poll", async () => {
    const owner = await scene.replica({}, { directUrl: pooled });
    const entry = await scene.replica({}, { directUrl: pooled });
    await degraded(owner);
    await degraded(entry);
    const project = await scene.project(entry);
    const runtimeBroker = await scene.runtimeBroker(owner);
    const created = await timed(() => scene.agent(entry, project, "a1"));
    const agent = created.result;
    const events = await openEventStream(entry, { patterns: [`agent.${agent}.>`] });

    const sent = await timed(() => send(entry, agent, "by the poll"));
    expect(sent.result.status).toBe(200);
    expect(runtimeBroker.delivered).toHaveLength(1);

    const stopped = await timed(() => api(entry, "POST", `/api/v1/agents/${agent}/stop`));
    expect([stopped.result.status, stopped.result.get("phase")]).toEqual([200, "stopped"]);

    const heard = await timed(() =>
      eventually(() => {
        const subjects = events.updates().map((u) => String(Reflect.get(Object(u.data), "subject")));
        expect(subjects.slice(-2)).toEqual([`agent.${agent}.message`, `agent.${agent}.status`]);
      }),
    );
    await events.close();
    for (const { ms } of [created, sent, stopped, heard]) expect(ms).toBeLessThan(BOUND_MS);
  }, 60_000);

  test("invariant 6: every NOTIFY dropped: what a killed owner had goes on at another replica, which also buries it", async () => {
    const start = async (name: string) => {
      const replica = await startReplicaProcess({ databaseUrl: scene.database.url, directUrl: pooled, name });
      scene.onEnd(async () => {
        replica.signal("SIGKILL");
        await replica.exited;
      });
      return replica;
    };
    const owner = await start("owner");
    const entry = await start("entry");
    await degraded(entry);
    const project = await scene.project(entry);
    const place = { url: owner.url };
    const runtimeBroker = await scene.runtimeBroker(owner, { hubUrl: () => place.url });
    const agent = await scene.agent(entry, project, "a1");
    runtimeBroker.holdAnswers();
    const waiting = send(entry, agent, "in the hands of the dead");
    await runtimeBroker.onRequest.next((r) => r.path.endsWith("/message"));
    place.url = entry.url;
    owner.signal("SIGKILL");
    runtimeBroker.releaseAnswers();
    expect([200, 202]).toContain((await waiting).status);
    await eventually(async () => {
      const [message] = await scene.database.query("select state from messages");
      return message?.state === "delivered";
    });
    expect(runtimeBroker.delivered).toHaveLength(1);
    expect((await api(entry, "POST", `/api/v1/agents/${agent}/stop`)).get("phase")).toBe("stopped");
    await eventually(async () => (await scene.database.query("select 1 from hub_replicas")).length === 1, 30_000);
  }, 120_000);
});
