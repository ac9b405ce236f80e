import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { Route } from "@rootstock/hub";
import { systemClock } from "@rootstock/service";
import {
  type ApiReply,
  api,
  databaseAt,
  eventually,
  type OwnedPostgres,
  Scene,
  SimulatedRuntimeBroker,
  sampleOf,
  startEmbeddedPostgres,
} from "@rootstock/testkit";
import { callAllowed, forEach, makeWorld, name, nothing, type World } from "./badInput/world.ts";

/** The database is gone for a while: every answer says so at once, nothing is dropped, and it passes by itself. */

let postgres: OwnedPostgres;
let world: World;

beforeAll(async () => {
  postgres = await startEmbeddedPostgres();
  world = await makeWorld(await Scene.create(databaseAt(postgres.url)));
});
afterAll(async () => {
  await world.scene.end();
  await postgres.stop();
});

/** Routes whose answer needs no look at the database, for a user known by a configured token. */
const NEEDS_NO_DATABASE: readonly RegExp[] = [
  /^GET \/metrics$/,
  /^GET \/events$/,
  /^GET \/api\/v1\/auth\/me$/,
  /^GET \/api\/v1\/settings\/public$/,
  /^GET \/api\/v1\/(templates|harness-configs|skills|message-channels|notifications|notifications\/templates)$/,
  /^POST \/api\/v1\/notifications\/(ack-all|:notificationId\/ack)$/,
  /^GET \/api\/v1\/runtime-brokers\/connect$/,
  /^GET \/\.well-known\/jwks\.json$/,
  // Pages, and what browsers ask of sign-in: who has no session is told so by the missing cookie.
  /^(GET|POST) \/(login|invite|device|authorize|assets\/.*|auth\/(login|login\/.*|link\/.*|unlink|logout|providers|callback\/.*))?$/,
  /^GET \/api\/v1\/openapi\.json$/,
  /^POST \/api\/v1\/users$/,
  // Asked about somebody who was not there a moment ago.
  /^POST \/api\/v1\/policies\/evaluate$/,
  // Their samples hold no token, code or address that would be looked up.
  /^POST \/api\/v1\/auth\/(refresh|validate|logout|test-login|invite\/redeem)$/,
  /^POST \/api\/v1\/admin\/(allow-list|allow-list\/import|invites)$/,
  // Between replicas, and for runtime brokers only.
  /^POST \/internal\/v1\/(tunnel|halts)$/,
  /^(GET|POST) \/api\/v1\/broker\/(projects|inbound)$/,
];

/** Answers 501, or 405 where the path is another's, whatever the database does, for a user. */
const isNotHad = (route: Route, reply: ApiReply): boolean =>
  route.documented === false && [501, 405].includes(reply.status);

const send = (msg: string) =>
  api(world.replica, "POST", `/api/v1/agents/${world.agentId}/message`, { structured_message: { msg } });

test("every route answers 503 with Retry-After within 6 s, health says degraded, sockets are kept, and it passes by itself", async () => {
  const { replica, runtimeBroker, scene } = world;
  const before = runtimeBroker.sessions.length;
  await postgres.takeDown();

  const found = await forEach(world.routes, async (route) => {
    const path = nothing(route);
    const body = route.body && sampleOf(route.body);
    const started = systemClock.elapsed();
    const reply = await callAllowed(world, route, path, { body });
    const ms = systemClock.elapsed() - started;
    const told = `${name(route, path)} -> ${reply.status} in ${Math.round(ms)} ms ${reply.body.slice(0, 200)}`;
    if (ms > 6_000) return [`slow: ${told}`];
    if (/^\/(healthz|health)$/.test(path)) return reply.get("status") === "degraded" ? [] : [told];
    if (path === "/readyz") return reply.status === 503 && reply.get("checks.database") === "unavailable" ? [] : [told];
    if (NEEDS_NO_DATABASE.some((r) => r.test(name(route, route.path)))) return reply.status < 500 ? [] : [told];
    if (isNotHad(route, reply) || reply.get("error.code") === "validation_error") return [];
    const isTold =
      reply.status === 503 && reply.get("error.code") === "unavailable" && reply.headers.has("retry-after");
    return isTold ? [] : [told];
  });
  expect(found).toEqual([]);
  const dial = await runtimeBroker.fetch("POST", `/api/v1/runtime-brokers/${runtimeBroker.id}/heartbeat`, {});
  expect(dial.status).toBe(503);
  expect((await send("refused")).status).toBe(503);

  await postgres.bringUp();
  await eventually(async () => (await api(replica, "GET", "/readyz")).status === 200);
  await eventually(async () => [200, 202].includes((await send("accepted")).status));
  await eventually(() => runtimeBroker.delivered.length > 0);
  expect((await runtimeBroker.heartbeat()).status).toBe(200);
  expect(runtimeBroker.closes).toEqual([]);
  expect(runtimeBroker.sessions).toHaveLength(before);
  expect(
    runtimeBroker.delivered.map((d) => Reflect.get(Object(Reflect.get(Object(d.body), "structured_message")), "msg")),
  ).toEqual(["accepted"]);
  expect(await scene.database.query("select msg from messages")).toEqual([{ msg: "accepted" }]);
});

test("a runtime broker that dials while the database is away is told to come back, and gets in afterwards", async () => {
  const { replica, scene } = world;
  const credentials = await scene.join(replica, "late");
  await postgres.takeDown();
  const late = new SimulatedRuntimeBroker({ hubUrl: replica.url, credentials, firstRetryMs: 50, like: "rootstock" });
  scene.onEnd(() => late.stop());
  const refused = late.onRefusedDial.next();
  const connected = late.connect();
  expect(await refused).toBe(503);
  await postgres.bringUp();
  await connected;
  expect(new Set(late.refusedDials)).toEqual(new Set([503]));
});

test("a standby takes the database's place and is promoted late: not ready, no internal errors, sockets are kept, nothing is lost", async () => {
  const { replica, runtimeBroker, scene } = world;
  const { sessions, delivered, closes } = runtimeBroker;
  const before = { sessions: sessions.length, delivered: delivered.length, closes: closes.length };
  const late = await scene.join(replica, "dials a standby");
  runtimeBroker.holdAnswers();
  const onWire = send("on the wire when the database goes");
  await runtimeBroker.onRequest.next((r) => r.path.endsWith("/message"));
  await postgres.takeDown();
  await postgres.bringUpAsStandby();
  runtimeBroker.releaseAnswers();
  await eventually(async () => {
    const ready = await api(replica, "GET", "/readyz");
    expect([ready.status, ready.get("checks.database")]).toEqual([503, "read_only"]);
  });
  expect((await onWire).status).toBe(200);

  const found = await forEach(world.routes, async (route) => {
    const path = nothing(route);
    const reply = await callAllowed(world, route, path, { body: route.body && sampleOf(route.body) });
    if (reply.status < 500 || isNotHad(route, reply) || path === "/readyz") return [];
    const isTold = reply.get("error.code") === "unavailable" && reply.headers.has("retry-after");
    return isTold ? [] : [`${name(route, path)} -> ${reply.status} ${reply.body.slice(0, 200)}`];
  });
  expect(found).toEqual([]);
  expect((await send("refused")).status).toBe(503);
  expect((await runtimeBroker.heartbeat()).status).toBe(503);
  const dialling = new SimulatedRuntimeBroker({ hubUrl: replica.url, credentials: late, firstRetryMs: 50 });
  scene.onEnd(() => dialling.stop());
  const refused = dialling.onRefusedDial.next();
  const connected = dialling.connect();
  expect(await refused).toBe(503);

  await postgres.promote();
  await connected;
  await eventually(async () => (await api(replica, "GET", "/readyz")).status === 200);
  await eventually(async () => [200, 202].includes((await send("after the promotion")).status));
  await eventually(async () => {
    const open = await scene.database.query("select msg, state from messages where state <> 'delivered'");
    expect(open).toEqual([]);
  });
  expect([sessions.length, closes.length]).toEqual([before.sessions, before.closes]);
  const texts = delivered
    .slice(before.delivered)
    .map((d) => Reflect.get(Object(Reflect.get(Object(d.body), "structured_message")), "msg"));
  expect(texts).toEqual(["on the wire when the database goes", "after the promotion"]);
}, 60_000);
