import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { systemClock } from "@rootstock/service";
import {
  api,
  eventually,
  type Replica,
  type ReplicaProcess,
  Scene,
  startEmbeddedPostgres,
  startReplica,
  startReplicaProcess,
} from "@rootstock/testkit";
import { PostgresProxy } from "./chaos/postgresProxy.ts";

/**
 * Rows of the failure table (design section 10), with replicas that are killed, paused and cut off. The owner killed at
 * each moment: ownerKilled.test.ts.
 */

/** What a poll that replaces signals finds, four times a second: generously. */
const POLLED_WITHIN_MS = 5_000;

let scene: Scene;
beforeEach(async () => {
  scene = await Scene.create();
});
afterEach(() => scene.end());

const process = async (name: string): Promise<ReplicaProcess> => {
  const replica = await startReplicaProcess({ databaseUrl: scene.database.url, name });
  scene.onEnd(async () => {
    replica.signal("SIGKILL");
    await replica.exited;
  });
  return replica;
};

/** Two replicas; an agent whose runtime broker hangs on the first, and dials wherever `place` says when that goes. */
const ownerAndEntry = async () => {
  const owner = await process("owner");
  const entry = await process("entry");
  const project = await scene.project(entry);
  const place = { url: owner.url };
  const runtimeBroker = await scene.runtimeBroker(owner, { hubUrl: () => place.url });
  const agent = await scene.agent(entry, project, "a1");
  return { owner, entry, place, runtimeBroker, agent };
};

const send = (replica: Replica, agent: string, msg: string) =>
  api(replica, "POST", `/api/v1/agents/${agent}/message`, { structured_message: { msg } });

const messageIds = (received: readonly { readonly path: string; readonly json: unknown }[]): string[] =>
  received.filter((r) => r.path.endsWith("/message")).map((r) => (r.json as { message_id: string }).message_id);

const states = async (): Promise<unknown[]> =>
  (await scene.database.query("select state from messages order by seq")).map((r) => r.state);

test("owner killed in the middle of a start: the intent ends elsewhere and the agent is started once", async () => {
  const { owner, entry, place, runtimeBroker, agent } = await ownerAndEntry();
  await api(entry, "POST", `/api/v1/agents/${agent}/stop`);
  runtimeBroker.holdAnswers();
  const start = api(entry, "POST", `/api/v1/agents/${agent}/start`);
  await runtimeBroker.onRequest.next((r) => r.path.endsWith("/start"));
  place.url = entry.url;
  owner.signal("SIGKILL");
  runtimeBroker.releaseAnswers();
  const answer = await start;
  expect([answer.status, answer.get("phase")]).toEqual([200, "running"]);
  expect(runtimeBroker.received.filter((r) => r.path.endsWith("/start"))).toHaveLength(1);
});

test("invariant 5: a replica paused past its lease, then resumed: its late acknowledgement is refused by the fence", async () => {
  const owner = await process("owner");
  const entry = await process("entry");
  const project = await scene.project(entry);
  const credentials = await scene.join(entry, "laptop");
  const old = await scene.connect(owner, credentials, { redials: false });
  const agent = await scene.agent(entry, project, "a1");
  old.holdAnswers();
  const reply = send(entry, agent, "to whom?");
  await old.onRequest.next((r) => r.path.endsWith("/message"));
  owner.signal("SIGSTOP");
  expect((await reply).status).toBe(202);
  await eventually(async () => (await scene.database.query("select 1 from hub_replicas")).length === 1, 25_000);
  const fresh = await scene.connect(entry, credentials);
  fresh.holdAnswers();
  await fresh.onRequest.next((r) => r.path.endsWith("/message"));
  old.releaseAnswers();
  owner.signal("SIGCONT");
  await old.onClose.next();
  const [row] = await scene.database.query("select state, claim_session from messages");
  expect(row).toMatchObject({ state: "delivering", claim_session: fresh.session?.sessionId });
  fresh.releaseAnswers();
  await eventually(async () => (await states())[0] === "delivered");
  await eventually(async () => (await scene.database.query("select 1 from hub_replicas")).length === 2);
  const [affinity] = await scene.database.query("select connected_session_id as session from runtime_brokers");
  expect(affinity?.session).toBe(fresh.session?.sessionId);
});

test("entry replica killed while a client waits: a dropped connection, the work runs once, and the retry with its key gets its result", async () => {
  const { owner, entry, runtimeBroker, agent } = await ownerAndEntry();
  const third = await process("third");
  const stop = (replica: Replica) =>
    api(replica, "POST", `/api/v1/agents/${agent}/stop`, undefined, { headers: { "idempotency-key": "stop-once" } });
  runtimeBroker.holdAnswers();
  const waiting = stop(entry);
  await runtimeBroker.onRequest.next((r) => r.path.endsWith("/stop"));
  entry.signal("SIGKILL");
  await expect(waiting).rejects.toThrow();
  const retry = stop(third);
  runtimeBroker.releaseAnswers();
  const answer = await retry;
  expect([answer.status, answer.get("phase")]).toEqual([200, "stopped"]);
  const again = await stop(owner);
  expect([again.status, again.json]).toEqual([answer.status, answer.json]);
  expect(runtimeBroker.received.filter((r) => r.path.endsWith("/stop"))).toHaveLength(1);
});

test("a runtime broker flaps from A to B, and A notices late: it stays online and B's, and nothing is asked of A", async () => {
  const a = await process("a");
  const b = await process("b");
  const project = await scene.project(b);
  const place = { url: a.url };
  const runtimeBroker = await scene.runtimeBroker(a, { hubUrl: () => place.url });
  const agent = await scene.agent(b, project, "a1");
  a.signal("SIGSTOP");
  place.url = b.url;
  const moved = runtimeBroker.onSession.next();
  runtimeBroker.cut();
  const { sessionId } = await moved;
  a.signal("SIGCONT");
  // A has noticed once it has tried to give the socket up.
  await eventually(() => a.output().includes("runtime broker disconnected"));
  const affinity = () =>
    scene.database.query(
      `select r.status, r.connected_session_id as session, h.name as replica
         from runtime_brokers r left join hub_replicas h on h.instance_id = r.connected_hub_id`,
    );
  expect(await affinity()).toEqual([{ status: "online", session: sessionId, replica: "b" }]);
  expect((await send(a, agent, "through A")).status).toBe(200);
  expect(runtimeBroker.received.at(-1)?.sessionId).toBe(sessionId);
  expect(await affinity()).toEqual([{ status: "online", session: sessionId, replica: "b" }]);
});

test("coordination connection cut: the replica claims nothing until it has it back; after a while others take over", async () => {
  const proxy = await PostgresProxy.start(scene.database.url);
  scene.onEnd(() => proxy.stop());
  const replica = async (name: string, directUrl?: string) => {
    const started = await startReplicaProcess({
      databaseUrl: scene.database.url,
      name,
      ...(directUrl !== undefined && { directUrl }),
    });
    scene.onEnd(async () => {
      started.signal("SIGKILL");
      await started.exited;
    });
    return started;
  };
  const owner = await replica("owner", proxy.url);
  const entry = await replica("entry");
  const project = await scene.project(entry);
  const place = { url: owner.url };
  const runtimeBroker = await scene.runtimeBroker(owner, { hubUrl: () => place.url });
  const agent = await scene.agent(entry, project, "a1");
  const [second, third] = [await scene.agent(entry, project, "a2"), await scene.agent(entry, project, "a3")];
  const coordination = async (expected: string) =>
    eventually(async () => {
      const ready = await api(owner, "GET", "/readyz");
      expect([ready.status, ready.get("checks.coordination")]).toEqual([200, expected]);
    });

  // Back within the grace: nobody else has to do anything.
  proxy.cut("coordination");
  await coordination("ok");
  expect((await send(entry, agent, "after a short cut")).status).toBe(200);
  expect(runtimeBroker.closes).toEqual([]);

  // For longer: it may not claim, and lets its sockets go where work can be claimed.
  place.url = entry.url;
  await proxy.stop();
  await coordination("degraded");
  const closing = runtimeBroker.onClose.next();
  const before = runtimeBroker.received.length;
  const stopped = api(owner, "POST", `/api/v1/agents/${third}/stop`);
  const [accepted, alsoThere] = await Promise.all([
    send(entry, agent, "while nobody may claim"),
    send(owner, second, "nor its own"),
  ]);
  expect([accepted.status, alsoThere.status]).toEqual([202, 202]);
  const closed = await closing;
  expect(closed.code).toBe(1012);
  expect((await stopped).get("phase")).toBe("stopped");
  await eventually(async () => expect(await states()).toEqual(["delivered", "delivered", "delivered"]));
  const since = runtimeBroker.received.slice(before);
  expect(new Set(since.map((r) => r.sessionId))).toEqual(new Set([runtimeBroker.session?.sessionId]));
  expect(messageIds(since)).toHaveLength(2);
  expect((await send(owner, agent, "through the one that has lost it")).status).toBe(200);
});

test("no replica reaches DATABASE_DIRECT_URL while the pool works: calls are accepted, nobody claims, and all is done when it is back", async () => {
  const proxy = await PostgresProxy.start(scene.database.url);
  scene.onEnd(() => proxy.stop());
  const owner = await scene.replica({}, { directUrl: proxy.url });
  const entry = await scene.replica({}, { directUrl: proxy.url });
  const project = await scene.project(entry);
  const place = { url: owner.url };
  const runtimeBroker = await scene.runtimeBroker(owner, { hubUrl: () => place.url });
  const agent = await scene.agent(entry, project, "a1");
  proxy.refusing = true;
  for (const replica of [owner, entry])
    await eventually(async () => {
      const ready = await api(replica, "GET", "/readyz");
      const checks = ["database", "signals", "coordination"].map((check) => ready.get(`checks.${check}`));
      expect([ready.status, ...checks]).toEqual([200, "ok", "degraded", "degraded"]);
    });
  const refused = runtimeBroker.onRefusedDial.next();
  const sent = await Promise.all([send(owner, agent, "m0"), send(entry, agent, "m1")]);
  expect(sent.map((s) => s.status)).toEqual([202, 202]);
  expect(await refused).toBe(503);
  expect(runtimeBroker.closes.map((c) => c.code)).toEqual([1012]);
  expect(runtimeBroker.delivered).toEqual([]);
  place.url = entry.url;
  proxy.refusing = false;
  await eventually(async () => expect(await states()).toEqual(["delivered", "delivered"]));
  expect(messageIds(runtimeBroker.received)).toHaveLength(2);
  for (const replica of [owner, entry])
    await eventually(async () => {
      const ready = await api(replica, "GET", "/readyz");
      expect([ready.get("checks.signals"), ready.get("checks.coordination")]).toEqual(["ok", "ok"]);
    });
});

test("listen connection cut: latency is bounded by the poll, nothing is lost", async () => {
  const owner = await scene.replica();
  const entry = await scene.replica();
  const project = await scene.project(entry);
  const runtimeBroker = await scene.runtimeBroker(owner);
  const agent = await scene.agent(entry, project, "a1");
  for (let i = 0; i < 3; i += 1) {
    await scene.database.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query ilike 'listen %'",
    );
    const sentAt = systemClock.elapsed();
    expect([200, 202]).toContain((await send(entry, agent, `m${i}`)).status);
    await eventually(() => runtimeBroker.delivered.length === i + 1);
    expect(systemClock.elapsed() - sentAt).toBeLessThan(POLLED_WITHIN_MS);
  }
  // Both hear each other again, by themselves.
  for (const replica of [owner, entry])
    await eventually(async () => (await api(replica, "GET", "/readyz")).get("checks.signals") === "ok");
  expect(messageIds(runtimeBroker.received)).toHaveLength(3);
});

test("database restarts: replicas stay up, not ready, recover by themselves, sockets are kept, nothing is lost", async () => {
  const postgres = await startEmbeddedPostgres();
  scene.onEnd(() => postgres.stop());
  const owner = await startReplica({ databaseUrl: postgres.url, name: "owner" });
  scene.onEnd(() => owner.stop());
  const entry = await startReplica({ databaseUrl: postgres.url, name: "entry" });
  scene.onEnd(() => entry.stop());
  const project = await scene.project(entry);
  const runtimeBroker = await scene.runtimeBroker(owner);
  const made = await api(entry, "POST", `/api/v1/projects/${project}/agents`, { name: "a1", task: "wait" });
  const agent = made.text("agent.id");
  await api(entry, "POST", `/api/v1/agents/${agent}/status`, { phase: "running", activity: "working" });
  runtimeBroker.holdAnswers();
  const first = send(entry, agent, "on the wire while the database goes");
  await runtimeBroker.onRequest.next((r) => r.path.endsWith("/message"));
  await postgres.takeDown();
  runtimeBroker.releaseAnswers();
  await eventually(async () => (await api(entry, "GET", "/readyz")).status === 503);
  await postgres.bringUp();
  await eventually(async () => (await api(entry, "GET", "/readyz")).status === 200);
  await first;
  await eventually(async () => [200, 202].includes((await send(entry, agent, "after")).status));
  await eventually(async () => {
    const listed = await api(entry, "GET", `/api/v1/agents/${agent}/messages`);
    return listed.list("items").every((m) => (m as { dispatchState: string }).dispatchState === "dispatched");
  });
  expect(runtimeBroker.closes).toEqual([]);
  expect(new Set(messageIds(runtimeBroker.received)).size).toBe(messageIds(runtimeBroker.received).length);
});

test("SIGTERM: the replica lets go of its runtime brokers and leaves, and no call fails meanwhile", async () => {
  const leaving = await process("leaving");
  const staying = await process("staying");
  const project = await scene.project(staying);
  const place = { url: leaving.url };
  const runtimeBroker = await scene.runtimeBroker(leaving, { hubUrl: () => place.url });
  const agent = await scene.agent(staying, project, "a1");
  place.url = staying.url;
  const stopped = leaving.stop();
  const replies = [];
  for (let i = 0; i < 20; i += 1) replies.push((await send(staying, agent, `m${i}`)).status);
  expect(replies.filter((s) => s >= 400)).toEqual([]);
  await stopped;
  expect(await leaving.exited).toBe(0);
  expect(runtimeBroker.closes[0]?.code).toBe(1012);
  await eventually(() => runtimeBroker.delivered.length === 20);
});

test("owner killed in the middle of a restart that it was asked for itself: no message goes to the agent while it is down", async () => {
  const { owner, entry, place, runtimeBroker, agent } = await ownerAndEntry();
  runtimeBroker.holdAnswers();
  const restart = api(owner, "POST", `/api/v1/agents/${agent}/restart`).catch(() => undefined);
  await runtimeBroker.onRequest.next((r) => r.path.endsWith("/stop"));
  place.url = entry.url;
  owner.signal("SIGKILL");
  runtimeBroker.releaseAnswers();
  await restart;
  const phases: (string | undefined)[] = [];
  runtimeBroker.onRequest.on((r) => {
    if (r.path.endsWith("/message")) phases.push(runtimeBroker.agents.phases.get("a1"));
  });
  expect((await send(entry, agent, "when you are up again")).status).toBeLessThan(300);
  await eventually(async () => (await states())[0] === "delivered", 40_000);
  expect(phases).toEqual(["running"]);
});

test("a runtime broker that loses its connection in the middle of every attempt: a stop is not given up, or its agent would count as running", async () => {
  const owner = await scene.replica();
  const project = await scene.project(owner);
  const runtimeBroker = await scene.runtimeBroker(owner, { like: "unmodified" });
  const agent = await scene.agent(owner, project, "a1");
  let cuts = 0;
  runtimeBroker.onRequest.on((request) => {
    if (!request.path.endsWith("/stop") || cuts === 4) return;
    cuts += 1;
    runtimeBroker.cut();
  });
  const stopped = await api(owner, "POST", `/api/v1/agents/${agent}/stop`);
  expect([stopped.status, stopped.get("phase"), cuts]).toEqual([200, "stopped", 4]);
});
