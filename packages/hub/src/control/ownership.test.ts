import { expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import {
  claimRuntimeBroker,
  claimRuntimeBrokers,
  findMismatches,
  heldByDatabase,
  markSilentRuntimeBrokersOffline,
  releaseRuntimeBrokers,
  transaction,
  voidOlderClaims,
} from "@rootstock/store";
import { eventually, testBase } from "@rootstock/testkit";
import { seedRuntimeBroker } from "./controlPlane.testing.ts";
import { ControlScene, ready } from "./controlScene.testing.ts";
import { Ownership } from "./index.ts";

/** Who owns a runtime broker: claims, releases, and what an older socket may not do (design section 4). */

const scene = new ControlScene();
const { plane, dial, rowOf } = scene;

test("a dial makes the replica the owner, and `connected` is the first frame", async () => {
  const a = await plane();
  const credentials = await seedRuntimeBroker(a, "one");
  const session = await dial(credentials, a.url).connect();
  expect(await rowOf(credentials.brokerId)).toEqual({
    status: "online",
    hub: a.instanceId,
    session: session.sessionId,
    away: false,
  });
  expect((await ready(a, credentials.brokerId)).sessionId).toBe(session.sessionId);
  expect(a.announced.changed).toBeGreaterThan(0);
});

test("a socket that ends is given up, and the status waits for the redial", async () => {
  const a = await plane();
  const credentials = await seedRuntimeBroker(a, "one");
  const broker = dial(credentials, a.url, { redials: false });
  await broker.connect();
  await ready(a, credentials.brokerId);
  broker.cut();
  await eventually(async () => (await rowOf(credentials.brokerId)).away);
  expect(await rowOf(credentials.brokerId)).toMatchObject({ status: "online", hub: null, session: null });
  expect(a.registry.get(credentials.brokerId)).toBeUndefined();
  const grace = { redialGraceMs: 60_000, heartbeatGraceMs: 90_000, limit: 10 };
  expect(await markSilentRuntimeBrokersOffline(a.database.db, grace)).toEqual([]);
  await scene.database.query("update runtime_brokers set disconnected_at = now() - interval '70 seconds'");
  await scene.database.query("update runtime_broker_heartbeats set last_heartbeat = now() - interval '50 seconds'");
  expect(await markSilentRuntimeBrokersOffline(a.database.db, grace)).toEqual([]);
  await scene.database.query("update runtime_brokers set disconnected_at = now() - interval '100 seconds'");
  expect(await markSilentRuntimeBrokersOffline(a.database.db, grace)).toEqual([credentials.brokerId]);
});

test("a socket that is given up while the database is away is given up when that is back", async () => {
  const a = await plane();
  const credentials = await seedRuntimeBroker(a, "one");
  const broker = dial(credentials, a.url, { redials: false });
  await broker.connect();
  await ready(a, credentials.brokerId);
  a.failing = true;
  broker.cut();
  await eventually(() => a.registry.size === 0);
  await a.registry.poll();
  expect(await rowOf(credentials.brokerId)).toMatchObject({ hub: a.instanceId });
  a.failing = false;
  await a.registry.poll();
  expect(await rowOf(credentials.brokerId)).toMatchObject({ hub: null, session: null, away: true });
});

test("takeover: a newer dial at another replica owns the runtime broker, and the older replica lets go", async () => {
  const [a, b] = [await plane(), await plane()];
  const credentials = await seedRuntimeBroker(a, "one");
  const older = dial(credentials, a.url, { redials: false });
  await older.connect();
  await ready(a, credentials.brokerId);
  const newer = await dial(credentials, b.url).connect();
  await ready(b, credentials.brokerId);
  expect(await rowOf(credentials.brokerId)).toMatchObject({ hub: b.instanceId, session: newer.sessionId });
  const closed = older.onClose.next();
  await a.registry.poll();
  expect(await closed).toMatchObject({ code: 1000 });
  expect(a.registry.get(credentials.brokerId)).toBeUndefined();
  expect(await rowOf(credentials.brokerId)).toMatchObject({ hub: b.instanceId, session: newer.sessionId });
});

test("invariant 5: an old connection never speaks for a newer one: a runtime broker that flaps from A to B stays online and B's", async () => {
  const [a, b] = [await plane(), await plane()];
  const credentials = await seedRuntimeBroker(a, "one");
  const flapping = dial(credentials, a.url, { redials: false });
  await flapping.connect();
  await ready(a, credentials.brokerId);
  const newer = await dial(credentials, b.url).connect();
  // A notices late, with everything it has to say about the socket that it lost.
  flapping.cut();
  await eventually(() => a.registry.size === 0);
  await a.registry.poll();
  await b.registry.poll();
  expect(await rowOf(credentials.brokerId)).toEqual({
    status: "online",
    hub: b.instanceId,
    session: newer.sessionId,
    away: false,
  });
  expect((await ready(b, credentials.brokerId)).sessionId).toBe(newer.sessionId);
});

test("invariant 5: releases that name an older session or another replica change nothing", async () => {
  const a = await plane();
  const { brokerId } = await seedRuntimeBroker(a, "one");
  const [older, newer] = [systemRandom.uuid(), systemRandom.uuid()];
  for (const sessionId of [older, newer])
    await claimRuntimeBroker(a.database.db, a.instanceId, { runtimeBrokerId: brokerId, sessionId });
  const release = (hub: string, sessionId: string) =>
    releaseRuntimeBrokers(a.database.db, hub, [{ runtimeBrokerId: brokerId, sessionId }]);
  expect(await release(a.instanceId, older)).toEqual([]);
  expect(await release(systemRandom.uuid(), newer)).toEqual([]);
  expect(await rowOf(brokerId)).toMatchObject({ hub: a.instanceId, session: newer, away: false });
  expect(await release(a.instanceId, newer)).toEqual([brokerId]);
});

test("a claim of an older dial that commits after the newer one: the live socket owns within a poll", async () => {
  const [a, b] = [await plane(), await plane()];
  const credentials = await seedRuntimeBroker(a, "one");
  let open: () => void = () => {};
  a.gate = new Promise((resolve) => {
    open = resolve;
  });
  const slow = dial(credentials, a.url, { redials: false });
  void slow.connect();
  const live = dial(credentials, b.url);
  await live.connect();
  await ready(b, credentials.brokerId);
  // The machine gave up its dial at A; A does not know, and claims.
  slow.cut();
  await slow.onRefusedDial.next();
  a.gate = undefined;
  open();
  await eventually(async () => (await rowOf(credentials.brokerId)).session !== live.sessions[0]?.sessionId);
  await eventually(() => a.registry.size === 0);
  await eventually(async () => {
    await b.registry.poll();
    const row = await rowOf(credentials.brokerId);
    return row.hub === b.instanceId && row.session === live.session?.sessionId && row.status === "online";
  });
});

test("a dial that is given up while it is being claimed leaves no socket named, and the next one displaces nobody", async () => {
  const a = await plane();
  const credentials = await seedRuntimeBroker(a, "one");
  const impatient = dial(credentials, a.url, { redials: false });
  await transaction(a.database.db, async (tx) => {
    await tx.selectFrom("runtime_brokers").select("id").forUpdate().execute();
    void impatient.connect();
    await eventually(async () => {
      const waiting = await scene.database.query(
        "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
      );
      return waiting.length > 0;
    });
    impatient.cut();
    await impatient.onRefusedDial.next();
  });
  // Without a poll, by which sockets that nobody holds are found.
  await eventually(
    async () => expect(await rowOf(credentials.brokerId)).toMatchObject({ hub: null, away: true }),
    5_000,
  );
  await dial(credentials, a.url).connect();
  expect(a.channel.stats()).toEqual({ displaced: 0, delayed: 0 });
});

test("sockets of one runtime broker are claimed one after the other, however long the first claim takes", async () => {
  const a = await plane();
  const { brokerId } = await seedRuntimeBroker(a, "one");
  let claims = 0;
  let open: () => void = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  const background = async <T>(work: () => Promise<T>): Promise<T> => {
    claims += 1;
    await opened;
    return work();
  };
  const ownership = new Ownership(
    { db: a.database.db, background },
    { instanceId: a.instanceId, mayClaim: () => true },
    { changed: () => {}, done: () => {} },
    testBase(),
  );
  const [older, newer] = [systemRandom.uuid(), systemRandom.uuid()];
  const first = ownership.claim({ runtimeBrokerId: brokerId, sessionId: older });
  await eventually(() => claims === 1);
  const second = ownership.claim({ runtimeBrokerId: brokerId, sessionId: newer });
  // Time enough to begin.
  for (let i = 0; i < 3; i += 1) await rowOf(brokerId);
  expect(claims).toBe(1);
  open();
  expect(await first).toMatchObject({ displaced: false });
  expect(await second).toMatchObject({ displaced: true });
  expect(await rowOf(brokerId)).toMatchObject({ session: newer });
});

test("a claim that commits late for a socket that looks alive: the live one is made to redial and owns", async () => {
  const [a, b] = [await plane(), await plane()];
  const credentials = await seedRuntimeBroker(a, "one");
  const live = dial(credentials, b.url);
  await live.connect();
  await ready(b, credentials.brokerId);
  await transaction(a.database.db, (tx) =>
    claimRuntimeBroker(tx, a.instanceId, { runtimeBrokerId: credentials.brokerId, sessionId: systemRandom.uuid() }),
  );
  const again = live.onSession.next();
  await b.registry.poll();
  const { sessionId } = await again;
  expect(await rowOf(credentials.brokerId)).toMatchObject({ hub: b.instanceId, session: sessionId });
});

test("a claim that commits after it was given up, of a socket that never was, is found and given up again", async () => {
  const a = await plane({ straysEveryMs: 0 });
  const [stray, held] = [await seedRuntimeBroker(a, "stray"), await seedRuntimeBroker(a, "held")];
  const broker = dial(held, a.url);
  await broker.connect();
  await ready(a, held.brokerId);
  await transaction(a.database.db, (tx) =>
    claimRuntimeBroker(tx, a.instanceId, { runtimeBrokerId: stray.brokerId, sessionId: systemRandom.uuid() }),
  );
  await a.registry.poll();
  // Once may be a claim that is under way.
  expect(await rowOf(stray.brokerId)).toMatchObject({ hub: a.instanceId });
  await a.registry.poll();
  await eventually(async () => expect(await rowOf(stray.brokerId)).toMatchObject({ hub: null, away: true }));
  await a.registry.poll();
  expect(await rowOf(held.brokerId)).toMatchObject({ hub: a.instanceId, session: broker.session?.sessionId });
  expect(broker.sessions).toHaveLength(1);
});

test("a row that names nobody is claimed again for the socket held, without a new dial", async () => {
  const a = await plane();
  const credentials = await seedRuntimeBroker(a, "one");
  const broker = dial(credentials, a.url);
  const { sessionId } = await broker.connect();
  await ready(a, credentials.brokerId);
  // As the reaper leaves it, having taken this replica for dead.
  await scene.database.query(
    "update runtime_brokers set connected_hub_id = null, connected_session_id = null, disconnected_at = now()",
  );
  a.mayClaim = false;
  await a.registry.poll();
  expect(await rowOf(credentials.brokerId)).toMatchObject({ hub: null });
  a.mayClaim = true;
  await a.registry.poll();
  expect(await rowOf(credentials.brokerId)).toMatchObject({ hub: a.instanceId, session: sessionId, away: false });
  expect(broker.sessions).toHaveLength(1);
});

test("a deleted runtime broker's socket is closed, and its dials are refused", async () => {
  const a = await plane();
  const credentials = await seedRuntimeBroker(a, "one");
  const broker = dial(credentials, a.url);
  await broker.connect();
  await ready(a, credentials.brokerId);
  await scene.database.query("delete from runtime_brokers");
  const refused = broker.onRefusedDial.next();
  await a.registry.poll();
  expect(await refused).toBe(401);
  expect(a.registry.size).toBe(0);
});

test("a second socket at the same replica replaces the first, whose end changes nothing", async () => {
  const a = await plane();
  const credentials = await seedRuntimeBroker(a, "one");
  const first = dial(credentials, a.url, { redials: false });
  await first.connect();
  await ready(a, credentials.brokerId);
  const closed = first.onClose.next();
  const { sessionId } = await dial(credentials, a.url).connect();
  expect(await closed).toMatchObject({ code: 1000 });
  await eventually(() => a.registry.get(credentials.brokerId)?.sessionId === sessionId);
  expect(await rowOf(credentials.brokerId)).toMatchObject({ hub: a.instanceId, session: sessionId, away: false });
});

test("a new session voids what older ones had claimed, and only that", async () => {
  const a = await plane();
  const { brokerId } = await seedRuntimeBroker(a, "one");
  const { brokerId: other } = await seedRuntimeBroker(a, "two");
  const [older, newer] = [systemRandom.uuid(), systemRandom.uuid()];
  const [project, agent, lone] = [systemRandom.uuid(), systemRandom.uuid(), systemRandom.uuid()];
  await scene.database.query("insert into projects (id, name, slug) values ($1, 'p', 'p')", [project]);
  for (const [id, slug] of [
    [agent, "a"],
    [lone, "b"],
  ])
    await scene.database.query("insert into agents (id, project_id, slug, name) values ($1, $2, $3, $3)", [
      id,
      project,
      slug,
    ]);
  const intent = async (session: string, attempts: number, runtimeBroker = brokerId) => {
    const id = systemRandom.uuid();
    await scene.database.query(
      `insert into broker_dispatch (id, runtime_broker_id, agent_id, op, state, claimed_by, claim_session, attempts, deadline_at)
       values ($1, $2, $3, 'stop', 'in_progress', $4, $5, $6, now() + interval '90 seconds')`,
      [id, runtimeBroker, agent, a.instanceId, session, attempts],
    );
    return id;
  };
  const message = async (session: string, to: string, runtimeBroker = brokerId) => {
    const id = systemRandom.uuid();
    await scene.database.query(
      `insert into messages (id, project_id, agent_id, runtime_broker_id, sender, recipient, msg, state, claimed_by, claim_session)
       values ($1, $2, $3, $4, 's', 'r', 'm', 'delivering', $5, $6)`,
      [id, project, to, runtimeBroker, a.instanceId, session],
    );
    return id;
  };
  const [again, spent, mine, foreign] = [
    await intent(older, 1),
    await intent(older, 3),
    await intent(newer, 1),
    await intent(older, 1, other),
  ];
  const [returned, kept] = [await message(older, agent), await message(newer, lone)];
  const held = { runtimeBrokerId: brokerId, sessionId: newer };
  const voided = await transaction(a.database.db, async (tx) => {
    await claimRuntimeBroker(tx, a.instanceId, held);
    return voidOlderClaims(tx, [held]);
  });
  expect(voided).toEqual({ returned: [again], failed: [spent], messages: 1 });
  const states = await scene.database.query<{ id: string; state: string }>(
    "select id, state from broker_dispatch union all select id, state from messages",
  );
  expect(Object.fromEntries(states.map((s) => [s.id, s.state]))).toEqual({
    [again]: "pending",
    [spent]: "failed",
    [mine]: "in_progress",
    [foreign]: "in_progress",
    [returned]: "pending",
    [kept]: "delivering",
  });
});

test("what the database names as held is one number of each session, and another when one of them changes", async () => {
  const a = await plane();
  const ids = await Promise.all(["one", "two"].map(async (n) => (await seedRuntimeBroker(a, n)).brokerId));
  const claimAll = async () => {
    const sockets = ids.map((runtimeBrokerId) => ({ runtimeBrokerId, sessionId: systemRandom.uuid() }));
    const claimed = [...(await claimRuntimeBrokers(a.database.db, a.instanceId, sockets)).values()];
    return { sockets, marks: claimed.reduce((marks, c) => marks ^ c.mark, 0n) };
  };
  const held = () => heldByDatabase(a.database.db, a.instanceId);
  expect(await held()).toEqual({ count: 0, marks: 0n });
  const first = await claimAll();
  expect(await held()).toEqual({ count: 2, marks: first.marks });
  const second = await claimAll();
  expect(second.marks).not.toBe(first.marks);
  expect(await held()).toEqual({ count: 2, marks: second.marks });
  await releaseRuntimeBrokers(a.database.db, a.instanceId, second.sockets.slice(1));
  expect((await held()).count).toBe(1);
});

test("held sockets are compared with the database in one question", async () => {
  const a = await plane();
  const ids = await Promise.all(["one", "two", "three"].map(async (n) => (await seedRuntimeBroker(a, n)).brokerId));
  const held = [...ids, systemRandom.uuid()].map((runtimeBrokerId) => ({
    runtimeBrokerId,
    sessionId: systemRandom.uuid(),
  }));
  const [mine, others, , gone] = held;
  if (!mine || !others || !gone) throw new Error("unreachable");
  await claimRuntimeBroker(a.database.db, a.instanceId, mine);
  await claimRuntimeBroker(a.database.db, systemRandom.uuid(), others);
  const found = await findMismatches(a.database.db, a.instanceId, held);
  expect(new Map(found.map((m) => [m.runtimeBrokerId, m.found]))).toEqual(
    new Map([
      [others.runtimeBrokerId, "another"],
      [held[2]?.runtimeBrokerId, "nobody"],
      [gone.runtimeBrokerId, "gone"],
    ]),
  );
});
