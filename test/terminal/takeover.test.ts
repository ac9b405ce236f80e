import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { systemClock } from "@rootstock/service";
import { ApiReply, api, eventually, LogClient, type Replica, Scene, TerminalClient } from "@rootstock/testkit";
import { MovingAddress } from "./machine.ts";
import { agentOn, replicaProcess } from "./stage.ts";

/** Replicas that stop, die, or are no longer the owner while somebody looks at a terminal. */

let scene: Scene;
beforeEach(async () => {
  scene = await Scene.create();
});
afterEach(() => scene.end());

const attach = async (replica: Replica, agent: string): Promise<TerminalClient> => {
  const client = await TerminalClient.attach(replica, agent);
  scene.onEnd(async () => client.cut());
  return client;
};

/** Notes that a replica has said through the database that it is not the owner. */
const keepRefusals = async (): Promise<void> => {
  await scene.database.query("create table refusals (n int)");
  await scene.database.query(
    `create function note() returns trigger language plpgsql as
     $$ begin insert into refusals values (1); return new; end $$`,
  );
  await scene.database.query(
    "create trigger note before insert on stream_frames for each row when (new.kind = 'sealed.refused') execute function note()",
  );
};

const THROUGH_DATABASE = { ROOTSTOCK_STREAM_RELAY: "postgres" };
const WAYS: [string, Readonly<Record<string, string>>][] = [
  ["directly", {}],
  ["through the database", THROUGH_DATABASE],
];

/** An owner in a process of its own, two replicas beside it, and an agent whose runtime broker dials `place`. */
const ownerToKill = async (env: Readonly<Record<string, string>>) => {
  const owner = await replicaProcess(scene, "owner");
  const entry = await scene.replica(env);
  const third = await scene.replica(env);
  const place = { url: owner.url };
  const s = await agentOn(scene, owner, entry, { hubUrl: () => place.url });
  return { owner, entry, third, place, s };
};

test.each(WAYS)(
  "affinity that lags behind, asked %s: the entry replica follows the runtime broker to its new owner",
  async (_, env) => {
    const owner = await scene.replica();
    const asked = new MovingAddress(owner);
    await asked.start();
    scene.onEnd(() => asked.stop());
    const entry = await scene.replica(env);
    const third = await scene.replica({ ROOTSTOCK_INTERNAL_URL: asked.url });
    asked.leadTo(third);
    await keepRefusals();
    const s = await agentOn(scene, owner, entry);
    const [row] = await scene.database.query<{ hub: string; session: string }>(
      "select connected_hub_id as hub, connected_session_id as session from runtime_brokers",
    );
    // As it is for a moment after a move: the database names a replica that no longer holds the socket.
    await scene.database.query("update runtime_brokers set connected_hub_id = $1", [third.hub.instanceId]);
    const attaching = attach(entry, s.agent);
    await eventually(async () => asked.answered > 0 || (await scene.database.query("select from refusals")).length > 0);
    await scene.database.query("update runtime_brokers set connected_hub_id = $1, connected_session_id = $2", [
      row?.hub,
      row?.session,
    ]);
    const client = await attaching;
    (await s.terminals.nth(0)).print("found");
    await client.shows("found");
  },
);

test("a replica that stops sends its viewers elsewhere", async () => {
  const owner = await scene.replica();
  const entry = await scene.replica();
  const detour = await scene.replica(THROUGH_DATABASE);
  const s = await agentOn(scene, owner, entry);
  for (const replica of [entry, detour, owner]) {
    const client = await attach(replica, s.agent);
    const terminal = s.terminals.opened.at(-1);
    await replica.stop();
    expect(await client.closed).toMatchObject({
      code: 4503,
      reason: replica === owner ? "broker_disconnected" : "runtime_unavailable",
    });
    if (replica !== owner) await terminal?.closed;
  }
});

test.each(WAYS)(
  "the owner is killed, reached %s: the viewer is told to come back, and the new owner serves it",
  async (_, env) => {
    const { owner, entry, third, place, s } = await ownerToKill(env);
    const client = await attach(entry, s.agent);
    (await s.terminals.nth(0)).print("before");
    await client.shows("before");
    place.url = third.url;
    owner.signal("SIGKILL");
    expect(await client.closed).toEqual({ code: 4503, reason: "broker_disconnected" });
    const again = await eventually(() => attach(entry, s.agent));
    (await s.terminals.nth(1)).print("after");
    await again.shows("after");
  },
  60_000,
);

test.each(WAYS)(
  "the owner is killed, reached %s, before it has answered: a question is asked again, a command is in doubt",
  async (_, env) => {
    const { owner, entry, third, place, s } = await ownerToKill(env);
    s.runtimeBroker.holdAnswers();
    const arrived = [/\/exec$/, /\/logs$/].map((end) => s.runtimeBroker.onRequest.next(({ path }) => end.test(path)));
    const exec = api(entry, "POST", `/api/v1/agents/${s.agent}/exec`, { command: ["true"] });
    const logs = api(entry, "GET", `/api/v1/agents/${s.agent}/logs`);
    await Promise.all(arrived);
    place.url = third.url;
    const again = s.runtimeBroker.onSession.next();
    owner.signal("SIGKILL");
    await again;
    s.runtimeBroker.releaseAnswers();
    expect((await logs).status).toBe(200);
    const doubtful = await exec;
    expect([doubtful.status, doubtful.get("error.code")]).toEqual([502, "runtime_error"]);
    expect(doubtful.headers.has("retry-after")).toBe(false);
  },
  60_000,
);

test.each(WAYS)(
  "an owner that died a moment ago, reached %s: who asks meanwhile is served by the new one",
  async (_, env) => {
    const { owner, entry, third, place, s } = await ownerToKill(env);
    owner.signal("SIGKILL");
    await owner.exited;
    const attaching = attach(entry, s.agent);
    const exec = api(entry, "POST", `/api/v1/agents/${s.agent}/exec`, { command: ["true"] });
    // Put down for the one that is gone: the database names it for as long as nobody else holds the socket.
    await eventually(async () => (await scene.database.query("select 1 from stream_frames")).length >= 2);
    place.url = third.url;
    const client = await attaching;
    (await s.terminals.nth(0)).print("found");
    await client.shows("found");
    expect((await exec).status).toBe(200);
  },
  60_000,
);

test("the owner hangs: once the runtime broker is elsewhere a question is asked there, a command is in doubt, and open terminals are told to come back", async () => {
  const way = new MovingAddress({ name: "owner", url: "http://127.0.0.1:9", stop: async () => {} });
  await way.start();
  scene.onEnd(() => way.stop());
  const owner = await replicaProcess(scene, "owner", { ROOTSTOCK_INTERNAL_URL: way.url });
  way.leadTo(owner);
  const [entry, third] = [await scene.replica(), await scene.replica()];
  const place = { url: owner.url };
  const s = await agentOn(scene, owner, entry, { hubUrl: () => place.url });
  const client = await attach(entry, s.agent);
  (await s.terminals.nth(0)).print("before");
  await client.shows("before");
  owner.signal("SIGSTOP");
  const [hung, before] = [systemClock.elapsed(), way.accepted];
  const logs = api(entry, "GET", `/api/v1/agents/${s.agent}/logs`);
  const exec = api(entry, "POST", `/api/v1/agents/${s.agent}/exec`, { command: ["true"] });
  await eventually(() => way.accepted === before + 2);
  place.url = third.url;
  const again = s.runtimeBroker.onSession.next();
  s.runtimeBroker.cut();
  await again;
  expect((await logs).status).toBe(200);
  expect((await exec).status).toBe(502);
  expect(await client.closed).toEqual({ code: 4503, reason: "broker_disconnected" });
  expect(systemClock.elapsed() - hung).toBeLessThan(12_000);
  const back = await attach(entry, s.agent);
  (await s.terminals.nth(1)).print("after");
  await back.shows("after");
}, 60_000);

test.each(WAYS)(
  "the entry replica is killed, the owner reached %s: what it had open ends at the runtime broker",
  async (_, env) => {
    const owner = await scene.replica();
    const entry = await replicaProcess(scene, "entry", env);
    const s = await agentOn(scene, owner, owner);
    const client = await attach(entry, s.agent);
    const log = await LogClient.follow(entry, s.agent);
    if (log instanceof ApiReply) throw new Error(log.body);
    const open = [await s.terminals.nth(0), await s.terminals.nth(1)];
    entry.signal("SIGKILL");
    await client.closed;
    log.cut();
    for (const terminal of open) expect(await terminal.closed).toMatchObject({ type: "stream_close" });
    await eventually(async () => {
      const { body } = await api(owner, "GET", "/metrics");
      return /^rootstock_streams 0$/m.test(body) && /^rootstock_runtime_broker_streams 0$/m.test(body);
    });
  },
  60_000,
);
