import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { claimRuntimeBroker, Database, releaseRuntimeBrokers, voidOlderClaims } from "@rootstock/store";
import { api, eventually, Scene, type SimulatedRuntimeBroker, testBase } from "@rootstock/testkit";
import { PostgresProxy } from "./chaos/postgresProxy.ts";

/** Claims that come late: that of an older socket after that of the newer one, and one whose answer is long on its way. */

let scene: Scene;
let proxy: PostgresProxy;
beforeEach(async () => {
  scene = await Scene.create();
  proxy = await PostgresProxy.start(scene.database.url);
});
afterEach(async () => {
  await scene.end();
  await proxy.stop();
});

const messagesOf = ({ received }: SimulatedRuntimeBroker) => received.filter((r) => r.path.endsWith("/message"));
const claims = () =>
  scene.database.query<{ state: string; session: string | null }>(
    "select state, claim_session as session from messages order by seq",
  );

test("what was acknowledged meanwhile is settled when the socket is named again, and not sent over it once more", async () => {
  const owner = await scene.replica({}, { databaseUrl: proxy.url });
  const project = await scene.project(owner);
  const runtimeBroker = await scene.runtimeBroker(owner, { like: "unmodified" });
  const agent = await scene.agent(owner, project, "a1");
  const base = testBase();
  const database = new Database({
    url: scene.database.url,
    pooled: false,
    poolSize: 2,
    applicationName: "another",
    clock: base.clock,
    log: base.log,
  });
  await database.start();
  scene.onEnd(() => database.stop());
  await scene.database.query("create table settlings (n int)");
  await scene.database.query(`create function settling() returns trigger language plpgsql as $$ begin
    if current_query() like '%from locked e where m.id = e.id%' then insert into settlings values (1); end if;
    return null; end $$`);
  await scene.database.query(
    "create trigger settling after update on messages for each statement execute function settling()",
  );

  // Between its looks at who owns the socket, and between the acknowledgement and its settling.
  const look = await proxy.hold("coalesce(bit_xor(");
  const settling = proxy.hold("from locked e where m.id = e.id");
  const sent = api(owner, "POST", `/api/v1/agents/${agent}/message`, { structured_message: { msg: "once" } });
  const settle = await settling;
  const older = { runtimeBrokerId: runtimeBroker.id, sessionId: base.random.uuid() };
  const elsewhere = base.random.uuid();
  await claimRuntimeBroker(database.db, elsewhere, older);
  await voidOlderClaims(database.db, [older]);
  settle();
  expect((await sent).status).toBe(200);
  await eventually(async () => (await scene.database.query("select 1 from settlings")).length > 0);
  expect(await scene.database.query("select state from messages")).toEqual([{ state: "pending" }]);
  await releaseRuntimeBrokers(database.db, elsewhere, [older]);
  look();

  await eventually(async () => {
    expect(await scene.database.query("select state from messages")).toEqual([{ state: "delivered" }]);
  });
  expect(runtimeBroker.delivered).toHaveLength(1);
  expect(runtimeBroker.sessions).toHaveLength(1);
});

test("a message is claimed, its agent is stopped before the claim is answered: it waits for the next start", async () => {
  const owner = await scene.replica({}, { databaseUrl: proxy.url });
  const entry = await scene.replica();
  const project = await scene.project(entry);
  const runtimeBroker = await scene.runtimeBroker(owner, { like: "unmodified" });
  const agent = await scene.agent(entry, project, "a1");
  const phases: (string | undefined)[] = [];
  runtimeBroker.onRequest.on((r) => {
    if (r.path.endsWith("/message")) phases.push(runtimeBroker.agents.phases.get("a1"));
  });

  const claim = proxy.holdAnswer("update messages m set state = 'delivering'");
  const sent = api(entry, "POST", `/api/v1/agents/${agent}/message`, { structured_message: { msg: "not now" } });
  const answer = await claim;
  runtimeBroker.holdAnswers();
  const stopping = api(owner, "POST", `/api/v1/agents/${agent}/stop`);
  await runtimeBroker.onRequest.next((r) => r.path.endsWith("/stop"));
  answer();
  // Given back, or on its way into a container that is going down.
  await eventually(async () => {
    const [row] = await scene.database.query("select state from messages");
    expect(row).toEqual({ state: "pending" });
  });
  runtimeBroker.releaseAnswers();
  expect((await stopping).get("phase")).toBe("stopped");
  expect((await sent).status).toBe(202);
  expect(phases).toEqual([]);

  await api(entry, "POST", `/api/v1/agents/${agent}/start`);
  await scene.ready(entry, agent);
  await eventually(() => runtimeBroker.delivered.length === 1);
  expect(phases).toEqual(["running"]);
});

test.each([
  { who: "claimed for another replica", at: "entry", statement: "update messages m set state = 'delivering'" },
  { who: "stored already claimed", at: "owner", statement: "insert into messages" },
])(
  "a message is $who, and a whole stop of its agent passes before that is answered: it waits for the next start",
  async ({ at, statement }) => {
    const owner = await scene.replica({}, { databaseUrl: proxy.url });
    const entry = await scene.replica();
    const project = await scene.project(entry);
    const runtimeBroker = await scene.runtimeBroker(owner, { like: "unmodified" });
    const agent = await scene.agent(entry, project, "a1");

    const claim = proxy.holdAnswer(statement);
    const body = { structured_message: { msg: "not now" } };
    const sent = api(at === "owner" ? owner : entry, "POST", `/api/v1/agents/${agent}/message`, body);
    const answer = await claim;
    const stopped = await api(owner, "POST", `/api/v1/agents/${agent}/stop`);
    expect([stopped.status, stopped.get("phase")]).toEqual([200, "stopped"]);
    answer();
    expect((await sent).status).toBe(202);
    await eventually(async () => expect((await claims())[0]?.state).toBe("pending"));
    expect(messagesOf(runtimeBroker)).toEqual([]);

    await api(entry, "POST", `/api/v1/agents/${agent}/start`);
    await scene.ready(entry, agent);
    await eventually(() => runtimeBroker.delivered.length === 1);
  },
);

test("a claim is answered when its socket has been replaced: the message goes over the next one, under its claim", async () => {
  const owner = await scene.replica({}, { databaseUrl: proxy.url });
  const entry = await scene.replica();
  const project = await scene.project(entry);
  const runtimeBroker = await scene.runtimeBroker(owner);
  const agent = await scene.agent(entry, project, "a1");

  const claim = proxy.holdAnswer("update messages m set state = 'delivering'");
  const sent = api(entry, "POST", `/api/v1/agents/${agent}/message`, { structured_message: { msg: "once" } });
  const answer = await claim;
  const replaced = runtimeBroker.onSession.next();
  runtimeBroker.cut();
  const { sessionId } = await replaced;
  await eventually(async () => expect((await claims())[0]?.state).toBe("pending"));
  runtimeBroker.holdAnswers();
  answer();
  await eventually(async () => expect(await claims()).toEqual([{ state: "delivering", session: sessionId }]));
  await eventually(() => messagesOf(runtimeBroker).length === 1);
  runtimeBroker.releaseAnswers();
  expect((await sent).status).toBeLessThan(300);
  await eventually(async () => expect((await claims())[0]?.state).toBe("delivered"));
  expect(messagesOf(runtimeBroker).map((r) => r.sessionId)).toEqual([sessionId]);
});

test("a socket ends under a message, and giving that back takes long: it goes over the next socket, and counts as delivered only then", async () => {
  const owner = await scene.replica({}, { databaseUrl: proxy.url });
  const project = await scene.project(owner);
  const runtimeBroker = await scene.runtimeBroker(owner);
  const agent = await scene.agent(owner, project, "a1");

  runtimeBroker.holdAnswers();
  const givingBack = proxy.hold("update messages m set state = 'pending', hold_reason");
  const sent = api(owner, "POST", `/api/v1/agents/${agent}/message`, { structured_message: { msg: "again" } });
  await eventually(() => messagesOf(runtimeBroker).length === 1);
  const replaced = runtimeBroker.onSession.next();
  runtimeBroker.cut();
  const { sessionId } = await replaced;
  const giveBack = await givingBack;
  await eventually(async () => expect(await claims()).toEqual([{ state: "delivering", session: sessionId }]));
  giveBack();
  await eventually(() => messagesOf(runtimeBroker).length === 2);
  expect(await claims()).toEqual([{ state: "delivering", session: sessionId }]);
  runtimeBroker.releaseAnswers();
  expect((await sent).status).toBeLessThan(300);
  await eventually(async () => expect(await claims()).toEqual([{ state: "delivered", session: sessionId }]));
});

test("a claim that the database has forgotten, of a message acknowledged and not yet settled: it is settled, and not sent again", async () => {
  const owner = await scene.replica({}, { databaseUrl: proxy.url });
  const project = await scene.project(owner);
  const gates = new Map<string, Promise<void>>();
  const runtimeBroker = await scene.runtimeBroker(owner, {
    handle: async (request) => {
      await gates.get(request.path);
      return runtimeBroker.agents.handle(request);
    },
  });
  const [first, second] = [await scene.agent(owner, project, "a1"), await scene.agent(owner, project, "a2")];
  const send = (agent: string) =>
    api(owner, "POST", `/api/v1/agents/${agent}/message`, { structured_message: { msg: agent } });
  let acknowledge = () => {};
  gates.set(
    "/api/v1/agents/a2/message",
    new Promise((resolve) => {
      acknowledge = resolve;
    }),
  );
  const sentSecond = send(second);
  await eventually(() => messagesOf(runtimeBroker).length === 1);

  const settling = proxy.hold("from locked e where m.id = e.id");
  await send(first);
  const settle = await settling;
  acknowledge();
  await sentSecond;
  // As a crash of the database leaves it: claims commit without waiting for the disk.
  await scene.database.query(
    "update messages set state = 'pending', claimed_by = null, claim_session = null where agent_id = $1",
    [second],
  );
  // Found by two polls, it waits for the round that settles the other.
  for (let looks = 0; looks < 2; looks += 1) (await proxy.hold("select rb.id from runtime_brokers rb"))();
  settle();
  await eventually(async () => expect((await claims()).map((c) => c.state)).toEqual(["delivered", "delivered"]));
  expect(messagesOf(runtimeBroker)).toHaveLength(2);
});

test("a start that the owner is asked for waits for a stop that came before and is not claimed yet", async () => {
  const owner = await scene.replica({}, { databaseUrl: proxy.url });
  const entry = await scene.replica({ ROOTSTOCK_STREAM_RELAY: "postgres" });
  const project = await scene.project(entry);
  const runtimeBroker = await scene.runtimeBroker(owner);
  const agent = await scene.agent(entry, project, "a1");

  const claiming = proxy.hold("update broker_dispatch d set state = 'in_progress'");
  const stopped = api(entry, "POST", `/api/v1/agents/${agent}/stop`);
  const claim = await claiming;
  const started = api(owner, "POST", `/api/v1/agents/${agent}/start`);
  await eventually(async () => {
    const waiting = await scene.database.query(
      "select op, state from broker_dispatch where op <> 'create' order by seq",
    );
    expect(waiting).toEqual([
      { op: "stop", state: "pending" },
      { op: "start", state: "pending" },
    ]);
  });
  claim();
  expect([(await stopped).get("phase"), (await started).get("phase")]).toEqual(["stopped", "running"]);
  expect(runtimeBroker.received.map((r) => r.path.split("/")[5]).filter(Boolean)).toEqual(["stop", "start"]);
});

test("a message is stored already claimed, and the answer to that takes long: it is not given back meanwhile, and sent once", async () => {
  const owner = await scene.replica({}, { databaseUrl: proxy.url });
  const project = await scene.project(owner);
  const runtimeBroker = await scene.runtimeBroker(owner, { like: "unmodified" });
  const agent = await scene.agent(owner, project, "a1");

  const stored = proxy.holdAnswer("insert into messages");
  const sent = api(owner, "POST", `/api/v1/agents/${agent}/message`, { structured_message: { msg: "once" } });
  const answer = await stored;
  // What is claimed and not on the wire is looked for with each poll.
  for (let looks = 0; looks < 3; looks += 1) (await proxy.hold("where state = 'delivering' and claimed_by = "))();
  expect(await scene.database.query("select state from messages")).toEqual([{ state: "delivering" }]);
  answer();

  expect((await sent).status).toBe(200);
  await eventually(async () => {
    expect(await scene.database.query("select state from messages")).toEqual([{ state: "delivered" }]);
  });
  expect(runtimeBroker.delivered).toHaveLength(1);
});
