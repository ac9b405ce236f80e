import { expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import { eventually, type SimulatedCredentials, testBase } from "@rootstock/testkit";
import { seedRuntimeBroker } from "./controlPlane.testing.ts";
import { ControlScene, ready } from "./controlScene.testing.ts";
import { Ownership } from "./index.ts";

/** Which sockets a replica takes, how many at once, and how it lets go of them (design sections 4 and 9). */

const scene = new ControlScene();
const { plane, dial, rowOf } = scene;

test("two machines with one credential are slowed down", async () => {
  const a = await plane();
  const credentials = await seedRuntimeBroker(a, "one");
  const [first, second] = [dial(credentials, a.url), dial(credentials, a.url)];
  await Promise.all([first.connect(), second.connect()]);
  await eventually(() => a.channel.stats().delayed > 0);
  // While one waits, the other works.
  expect(a.channel.stats().displaced).toBeLessThan(10);
  expect(first.sessions.length + second.sessions.length).toBeLessThan(12);
});

test("sockets that dial at one moment are claimed each for itself; of two of one runtime broker the later one wins", async () => {
  const a = await plane();
  const [one = "", two = ""] = await Promise.all(
    ["one", "two"].map(async (n) => (await seedRuntimeBroker(a, n)).brokerId),
  );
  const replica = { instanceId: a.instanceId, mayClaim: () => true };
  const ownership = new Ownership(a.database, replica, { changed: () => {}, done: () => {} }, testBase());
  const sockets = [one, two, one, systemRandom.uuid(), one].map((runtimeBrokerId) => ({
    runtimeBrokerId,
    sessionId: systemRandom.uuid(),
  }));
  // The first two go alone; the others wait for them and go together.
  const [first] = await Promise.all([
    ownership.claim({ runtimeBrokerId: two, sessionId: systemRandom.uuid() }),
    ownership.claim({ runtimeBrokerId: systemRandom.uuid(), sessionId: systemRandom.uuid() }),
  ]);
  expect(first?.displaced).toBe(false);
  const held = [
    ownership.claim({ runtimeBrokerId: one, sessionId: systemRandom.uuid() }),
    ownership.claim({ runtimeBrokerId: systemRandom.uuid(), sessionId: systemRandom.uuid() }),
    ...sockets.map((socket) => ownership.claim(socket)),
  ];
  const claimed = (await Promise.all(held)).slice(2);
  expect(claimed.map((c) => c?.displaced)).toEqual([true, true, true, undefined, true]);
  expect(
    await scene.database.query("select id, connected_session_id as session from runtime_brokers order by name"),
  ).toEqual([
    { id: one, session: sockets[4]?.sessionId },
    { id: two, session: sockets[1]?.sessionId },
  ]);
});

test("a replica that may not claim, or drains, takes no socket and says so", async () => {
  const a = await plane();
  const credentials = await seedRuntimeBroker(a, "one");
  const broker = dial(credentials, a.url);
  a.mayClaim = false;
  const refused = broker.onRefusedDial.next();
  const connected = broker.connect();
  expect(await refused).toBe(503);
  a.mayClaim = true;
  await connected;
  await ready(a, credentials.brokerId);
  const b = await plane();
  const drained = a.registry.drain(200);
  expect(await broker.onRefusedDial.next()).toBe(503);
  await drained;
  expect(await rowOf(credentials.brokerId)).toMatchObject({ hub: null, away: true, status: "online" });
  expect(broker.closes[0]).toMatchObject({ code: 1012 });
  expect(b.registry.size).toBe(0);
});

test("draining waits for what is on the wire", async () => {
  const a = await plane();
  const credentials = await seedRuntimeBroker(a, "one");
  const broker = dial(credentials, a.url, { redials: false });
  await broker.connect();
  const connection = await ready(a, credentials.brokerId);
  broker.holdAnswers();
  const arrived = broker.onRequest.next();
  const call = connection.call({ method: "POST", path: "/api/v1/agents/a/stop" });
  await arrived;
  const waiting = connection.call({ method: "POST", path: "/api/v1/agents/b/stop" });
  const drained = a.registry.drain(0);
  await expect(waiting).rejects.toMatchObject({ kind: "not_sent" });
  expect(a.registry.get(credentials.brokerId)).toBeUndefined();
  expect(broker.closes).toEqual([]);
  broker.releaseAnswers();
  expect(await call).toMatchObject({ status: 202 });
  await drained;
  await eventually(() => broker.closes.length === 1);
});

test("a replica that is suspended closes its sockets and takes none until it resumes", async () => {
  const a = await plane();
  const credentials = await seedRuntimeBroker(a, "one");
  const broker = dial(credentials, a.url);
  await broker.connect();
  await ready(a, credentials.brokerId);
  const refused = broker.onRefusedDial.next();
  a.registry.suspend();
  expect(await refused).toBe(503);
  a.registry.resume();
  await ready(a, credentials.brokerId);
});

test("1,000 simultaneous dials: all online within seconds, and no call fails for lack of connections", async () => {
  const [a, b] = [await plane(), await plane()];
  const seeded: SimulatedCredentials[] = [];
  // A few at a time: what is tested is the dials.
  while (seeded.length < 1_000)
    seeded.push(
      ...(await Promise.all(
        Array.from({ length: 50 }, (_, i) => seedRuntimeBroker(a, `machine-${seeded.length + i}`)),
      )),
    );
  const calls: Promise<unknown>[] = [];
  const started = performance.now();
  const dialled = seeded.map((credentials, i) =>
    dial(credentials, i % 2 === 0 ? a.url : b.url, { firstRetryMs: 1_000 }).connect(),
  );
  for (let i = 0; i < 50; i += 1) calls.push(a.database.db.selectFrom("users").select("id").execute());
  await Promise.all([...dialled, ...calls]);
  await eventually(() => [...a.registry.all(), ...b.registry.all()].length === 1_000);
  const [row] = await scene.database.query<{ online: number }>(
    "select count(*)::int as online from runtime_brokers where status = 'online' and connected_hub_id is not null",
  );
  expect(row?.online).toBe(1_000);
  expect(performance.now() - started).toBeLessThan(20_000);
});
