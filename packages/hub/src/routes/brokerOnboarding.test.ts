import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import {
  createTestDatabase,
  eventually,
  joinRuntimeBroker,
  SimulatedRuntimeBroker,
  type TestDatabase,
} from "@rootstock/testkit";
import { DEVELOPMENT_USER } from "../auth/index.ts";
import { goDuration } from "./brokerOnboarding.ts";
import { type BrokerHub, callHub, DEVELOPMENT_TOKEN, startBrokerHub } from "./brokers.testing.ts";

let database: TestDatabase;
let hub: BrokerHub;
let simulated: SimulatedRuntimeBroker[];

beforeEach(async () => {
  database = await createTestDatabase();
  hub = await startBrokerHub(database);
  simulated = [];
});

afterEach(async () => {
  await Promise.all(simulated.map((s) => s.stop()));
  await hub.stop();
  await database.drop();
});

const register = (body: object) => callHub(hub, "POST", "/api/v1/brokers", body);
const join = (body: object) => callHub(hub, "POST", "/api/v1/brokers/join", body, undefined);
const broker = (credentials: { brokerId: string; secretKey: string }, at = hub): SimulatedRuntimeBroker => {
  const made = new SimulatedRuntimeBroker({ hubUrl: at.url, credentials, firstRetryMs: 20 });
  simulated.push(made);
  return made;
};
const str = (value: unknown): string => {
  if (typeof value !== "string") throw new Error(`no text: ${JSON.stringify(value)}`);
  return value;
};
const code = (answer: { body: Record<string, unknown> }): unknown =>
  (answer.body.error as Record<string, unknown> | undefined)?.code;
const field = (answer: { body: Record<string, unknown> }): unknown =>
  ((answer.body.error as Record<string, unknown> | undefined)?.details as Record<string, unknown> | undefined)?.field;

test("from nothing to online: register, join, heartbeat, socket", async () => {
  const brokerId = systemRandom.uuid();
  const registered = await register({ brokerId, name: "devbox", capabilities: ["sync", "attach"], autoProvide: true });
  expect(registered).toEqual({
    status: 201,
    body: { brokerId, joinToken: expect.stringMatching(/^scion_join_[\w-]{43}=$/), expiresAt: expect.any(String) },
  });
  const inAnHour = Date.parse(str(registered.body.expiresAt)) - Date.now();
  expect(Math.abs(inAnHour - 3_600_000)).toBeLessThan(60_000);
  const joined = await join({
    brokerId,
    joinToken: registered.body.joinToken,
    hostname: "devbox",
    version: "",
    capabilities: ["sync", "attach"],
    profiles: [{ name: "local", type: "podman", available: true, attach: { mode: "x" } }],
  });
  expect(joined).toEqual({
    status: 200,
    body: { secretKey: expect.any(String), hubEndpoint: hub.url, brokerId },
  });
  expect(Buffer.from(str(joined.body.secretKey), "base64")).toHaveLength(32);
  const shown = await callHub(hub, "GET", `/api/v1/runtime-brokers/${brokerId}`);
  expect(shown.body).toMatchObject({
    id: brokerId,
    name: "devbox",
    slug: "devbox",
    version: "",
    status: "online",
    autoProvide: true,
    profiles: [{ name: "local", type: "podman", available: true }],
    createdBy: DEVELOPMENT_USER.id,
    createdByName: "Development User",
    _capabilities: { actions: ["read", "update", "delete", "dispatch"] },
  });
  const machine = broker({ brokerId, secretKey: str(joined.body.secretKey) });
  const session = await machine.connect();
  expect((await machine.heartbeat()).status).toBe(200);
  expect((await callHub(hub, "GET", `/api/v1/runtime-brokers/${brokerId}`)).body).toMatchObject({
    status: "online",
    connectionState: "connected",
    connectedHubId: hub.plane.instanceId,
    connectedSessionId: session.sessionId,
  });
});

test("registering again reuses the id by name, whatever its case, and replaces settings unless told not to", async () => {
  const first = await register({ name: "Dev Box!", autoProvide: true });
  const shown = () => callHub(hub, "GET", `/api/v1/runtime-brokers/${first.body.brokerId}`);
  expect((await shown()).body).toMatchObject({ slug: "dev-box", autoProvide: true, status: "offline" });
  const kept = await register({ name: "dev box!", brokerId: systemRandom.uuid(), preserveSettings: true });
  expect(kept.body).toMatchObject({ brokerId: first.body.brokerId, reregistered: true, reissued: true });
  expect((await shown()).body.autoProvide).toBe(true);
  await register({ name: "dev box!" });
  expect((await shown()).body.autoProvide).toBeUndefined();
  const byId = await register({ name: "renamed", brokerId: first.body.brokerId });
  expect(byId.body).toMatchObject({ brokerId: first.body.brokerId, reregistered: true });
});

test("registering twice before joining: the newer token joins, the older is worthless", async () => {
  const first = await register({ name: "devbox" });
  const second = await register({ name: "devbox" });
  const { brokerId } = first.body;
  expect(await join({ brokerId, joinToken: first.body.joinToken })).toMatchObject({
    status: 401,
    body: { error: { code: "invalid_join_token" } },
  });
  expect((await join({ brokerId, joinToken: second.body.joinToken })).status).toBe(200);
  expect((await join({ brokerId, joinToken: second.body.joinToken })).status).toBe(401);
});

test("many registrations of one name at once: one runtime broker, one token that works", async () => {
  const answers = await Promise.all(Array.from({ length: 8 }, () => register({ name: "devbox" })));
  expect(answers.map((a) => a.status)).toEqual(Array(8).fill(201));
  expect(new Set(answers.map((a) => a.body.brokerId)).size).toBe(1);
  const joins = await Promise.all(answers.map((a) => join({ brokerId: a.body.brokerId, joinToken: a.body.joinToken })));
  expect(joins.filter((a) => a.status === 200)).toHaveLength(1);
});

test("a token joins its own runtime broker only, and only in its time", async () => {
  const [one, two] = [await register({ name: "one" }), await register({ name: "two" })];
  expect(code(await join({ brokerId: two.body.brokerId, joinToken: one.body.joinToken }))).toBe("invalid_join_token");
  expect(code(await join({ brokerId: systemRandom.uuid(), joinToken: one.body.joinToken }))).toBe("invalid_join_token");
  await database.query("update broker_join_tokens set expires_at = now() - interval '1 second'");
  expect(await join({ brokerId: one.body.brokerId, joinToken: one.body.joinToken })).toMatchObject({
    status: 401,
    body: { error: { code: "expired_join_token" } },
  });
  const left = await database.query("select runtime_broker_id from broker_join_tokens");
  expect(left).toEqual([{ runtime_broker_id: two.body.brokerId }]);
});

test("a token of somebody who is suspended joins nothing, as long as they are", async () => {
  const { body } = await register({ name: "devbox" });
  const credentials = { brokerId: body.brokerId, joinToken: body.joinToken };
  const set = (status: string) =>
    database.query(
      `insert into users (id, email, role, status) values ($1, 'dev@localhost', 'admin', $2)
         on conflict (id) do update set status = excluded.status`,
      [DEVELOPMENT_USER.id, status],
    );
  await set("suspended");
  expect(code(await join(credentials))).toBe("invalid_join_token");
  await set("active");
  expect((await join(credentials)).status).toBe(200);
});

test.each<[object, string]>([
  [{}, "name"],
  [{ name: "  " }, "name"],
  [{ name: "a", brokerId: "not-a-uuid" }, "brokerId"],
  [{ name: "a", joinTokenTtlSeconds: 5 }, "joinTokenTtlSeconds"],
  [{ name: "a", labels: { a: 1 } }, "labels.a"],
])("registering %j is refused, naming the field", async (body, name) => {
  const answer = await register(body);
  expect([answer.status, code(answer), field(answer)]).toEqual([400, "validation_error", name]);
});

test.each<[object, string]>([
  [{ joinToken: "x" }, "brokerId"],
  [{ brokerId: "", joinToken: "x" }, "brokerId"],
  [{ brokerId: "7", joinToken: "x" }, "brokerId"],
  [{ brokerId: "11111111-2222-4333-8444-555555555555" }, "joinToken"],
])("joining with %j is refused, naming the field", async (body, name) => {
  const answer = await join(body);
  expect([answer.status, code(answer), field(answer)]).toEqual([400, "validation_error", name]);
});

test("a token may live as long as asked", async () => {
  const answer = await register({ name: "devbox", joinTokenTtlSeconds: 86_400 });
  expect(Date.parse(str(answer.body.expiresAt)) - Date.now()).toBeGreaterThan(86_000_000);
});

test("nobody takes over another's runtime broker: not by name, not by id, not its secret, not its row", async () => {
  const stranger = systemRandom.uuid();
  const brokerId = systemRandom.uuid();
  await database.query("insert into runtime_brokers (id, name, slug, created_by) values ($1, 'theirs', 'theirs', $2)", [
    brokerId,
    stranger,
  ]);
  const { decide, NO_FACTS } = await import("../auth/index.ts");
  const member = { kind: "user", id: systemRandom.uuid(), email: "m@x", displayName: "m", role: "member" } as const;
  const resource = { kind: "runtimeBroker", id: brokerId, createdBy: stranger, autoProvide: false } as const;
  for (const action of ["update", "delete", "rotate", "dispatch"] as const)
    expect(decide(member, action, resource, NO_FACTS).allow).toBe(false);
  expect(decide({ ...member, id: stranger }, "update", resource, NO_FACTS).allow).toBe(true);
  // A runtime broker, an agent and nobody may not register at all.
  const mine = await joinRuntimeBroker({ hubUrl: hub.url, token: DEVELOPMENT_TOKEN, name: "mine" });
  const machine = broker(mine);
  expect((await machine.fetch("POST", "/api/v1/brokers", { name: "theirs" })).status).toBe(403);
  expect((await machine.fetch("DELETE", `/api/v1/runtime-brokers/${brokerId}`)).status).toBe(403);
  expect((await machine.fetch("POST", `/api/v1/brokers/${brokerId}/rotate-secret`)).status).toBe(403);
  expect((await callHub(hub, "POST", "/api/v1/brokers", { name: "theirs" }, "")).status).toBe(401);
});

test("rotation: the answer, the grace, and the old key afterwards", async () => {
  const old = await joinRuntimeBroker({ hubUrl: hub.url, token: DEVELOPMENT_TOKEN, name: "devbox" });
  const path = `/api/v1/brokers/${old.brokerId}/rotate-secret`;
  const own = broker(old);
  const rotated = await own.fetch("POST", path);
  expect(rotated.status).toBe(200);
  const answer = (await rotated.json()) as Record<string, unknown>;
  expect(answer).toEqual({ secretKey: expect.any(String), rotatedAt: expect.any(String), gracePeriod: "5m0s" });
  const present = broker({ brokerId: old.brokerId, secretKey: str(answer.secretKey) });
  expect([(await own.heartbeat()).status, (await present.heartbeat()).status]).toEqual([200, 200]);
  const byAdmin = await callHub(hub, "POST", path, { gracePeriod: 0 });
  expect(byAdmin.body).toMatchObject({ gracePeriod: "0s" });
  expect([(await own.heartbeat()).status, (await present.heartbeat()).status]).toEqual([401, 401]);
  const newest = broker({ brokerId: old.brokerId, secretKey: str(byAdmin.body.secretKey) });
  expect((await newest.heartbeat()).status).toBe(200);
  expect((await callHub(hub, "POST", path, { gracePeriod: "5m" })).status).toBe(400);
  expect((await callHub(hub, "POST", `/api/v1/brokers/${systemRandom.uuid()}/rotate-secret`)).status).toBe(404);
  expect((await callHub(hub, "POST", `/api/v1/brokers/${old.brokerId}/else`)).status).toBe(404);
});

test("joining anew makes the old key worthless at once", async () => {
  const old = await joinRuntimeBroker({ hubUrl: hub.url, token: DEVELOPMENT_TOKEN, name: "devbox" });
  const present = await joinRuntimeBroker({ hubUrl: hub.url, token: DEVELOPMENT_TOKEN, name: "devbox" });
  expect(present.brokerId).toBe(old.brokerId);
  expect((await broker(old).heartbeat()).status).toBe(401);
  expect((await broker(present).heartbeat()).status).toBe(200);
});

test("a runtime broker registered anew while it runs gets its calls though it verifies with its former key", async () => {
  const old = await joinRuntimeBroker({ hubUrl: hub.url, token: DEVELOPMENT_TOKEN, name: "devbox" });
  const present = await joinRuntimeBroker({ hubUrl: hub.url, token: DEVELOPMENT_TOKEN, name: "devbox" });
  const machine = broker(present);
  machine.verifyingKeys = [old.secretKey];
  await machine.connect();
  const connection = await eventually(() => {
    const found = hub.plane.registry.get(present.brokerId);
    if (!found) throw new Error("not connected");
    return found;
  });
  expect((await connection.call({ method: "GET", path: "/api/v1/agents" })).status).toBe(200);
});

test("deleting closes the socket on this replica at once, on another with its poll", async () => {
  const other = await startBrokerHub(database);
  try {
    const [here, there] = await Promise.all(
      ["here", "there"].map((name) => joinRuntimeBroker({ hubUrl: hub.url, token: DEVELOPMENT_TOKEN, name })),
    );
    if (!here || !there) throw new Error("unreachable");
    const [a, b] = [broker(here), broker(there, other)];
    await Promise.all([a.connect(), b.connect()]);
    const refused = Promise.all([a.onRefusedDial.next(), b.onRefusedDial.next()]);
    for (const { brokerId } of [here, there])
      expect((await callHub(hub, "DELETE", `/api/v1/runtime-brokers/${brokerId}`)).status).toBe(204);
    await other.plane.registry.poll();
    expect(await refused).toEqual([401, 401]);
    expect((await callHub(hub, "DELETE", `/api/v1/runtime-brokers/${here.brokerId}`)).status).toBe(404);
  } finally {
    await other.stop();
  }
});

test.each([
  [0, "0s"],
  [1, "1ns"],
  [1_500, "1.5µs"],
  [250_000_000, "250ms"],
  [1_500_000_000, "1.5s"],
  [300_000_000_000, "5m0s"],
  [3_600_500_000_000, "1h0m0.5s"],
])("%i ns are %s", (ns, text) => {
  expect(goDuration(ns)).toBe(text);
});
