import { afterEach, beforeEach, expect, test } from "@jest/globals";
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

/** Rows of the failure table (design section 10), with replicas that are killed, paused and cut off. */

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

test("invariant 1: owner killed between accept and claim: delivered after the runtime broker reconnects elsewhere", async () => {
  const { owner, entry, place, runtimeBroker, agent } = await ownerAndEntry();
  owner.signal("SIGSTOP");
  const accepted = await send(entry, agent, "do not lose me");
  expect(accepted.status).toBe(202);
  place.url = entry.url;
  owner.signal("SIGKILL");
  await eventually(() => runtimeBroker.delivered.length === 1);
  await eventually(async () => (await states())[0] === "delivered");
  expect(messageIds(runtimeBroker.received)).toEqual([accepted.text("message_id")]);
});

test("invariant 3: owner killed between send and acknowledgement: sent again with the same id, reaching the agent once", async () => {
  const { owner, entry, place, runtimeBroker, agent } = await ownerAndEntry();
  runtimeBroker.holdAnswers();
  const reply = send(entry, agent, "once, please");
  await runtimeBroker.onRequest.next((r) => r.path.endsWith("/message"));
  place.url = entry.url;
  owner.signal("SIGKILL");
  runtimeBroker.releaseAnswers();
  expect([200, 202]).toContain((await reply).status);
  await eventually(() => messageIds(runtimeBroker.received).length === 2);
  expect(new Set(messageIds(runtimeBroker.received)).size).toBe(1);
  expect(runtimeBroker.delivered).toHaveLength(1);
  await eventually(async () => (await states())[0] === "delivered");
});

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
}, 60_000);

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
    expect([200, 202]).toContain((await send(entry, agent, `m${i}`)).status);
  }
  await eventually(() => runtimeBroker.delivered.length === 3);
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
  const red = eventually(async () => (await api(entry, "GET", "/readyz")).status === 503);
  const restarted = postgres.restart();
  runtimeBroker.releaseAnswers();
  await red;
  await restarted;
  await eventually(async () => (await api(entry, "GET", "/readyz")).status === 200);
  await first;
  await eventually(async () => [200, 202].includes((await send(entry, agent, "after")).status));
  await eventually(async () => {
    const listed = await api(entry, "GET", `/api/v1/agents/${agent}/messages`);
    return listed.list("items").every((m) => (m as { dispatchState: string }).dispatchState === "dispatched");
  });
  expect(runtimeBroker.closes).toEqual([]);
  expect(new Set(messageIds(runtimeBroker.received)).size).toBe(messageIds(runtimeBroker.received).length);
}, 60_000);

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
}, 60_000);
