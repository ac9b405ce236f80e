import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import {
  createTestDatabase,
  eventually,
  type Seed,
  type StoreStack,
  seed,
  startStoreStack,
  type TestDatabase,
} from "@rootstock/testkit";
import type { Hono } from "hono";
import { NOBODY, type Principal } from "../auth/index.ts";
import { EventBus } from "../bus/index.ts";
import { createApp } from "../http/app.ts";
import { Metrics } from "../metrics/index.ts";
import { SseHub } from "../sse/index.ts";
import { NO_TRACING } from "../telemetry/index.ts";
import { eventRoutes } from "./events.ts";
import { ADMIN, agentPrincipal, member } from "./routes.testing.ts";

let db: TestDatabase;
let rows: Seed;
let stack: StoreStack;
let bus: EventBus;
let sse: SseHub;
let app: Hono;
/** Nobody is counted. */
const openStreams = { hold: async () => () => {} };

beforeEach(async () => {
  db = await createTestDatabase();
  rows = seed(db);
  stack = await startStoreStack(db.url);
  bus = new EventBus(stack.base, stack);
  sse = new SseHub(stack.base, { database: stack.database, bus });
  await bus.start();
  await sse.start();
  app = createApp(stack.base, {
    routes: eventRoutes({ ...stack.base, db: stack.database.db, sse, openStreams }),
    authenticate: async ({ headers }) => JSON.parse(headers.get("x-test-principal") ?? JSON.stringify(NOBODY)),
    publicUrl: undefined,
    trustsPeer: () => false,
    tracing: NO_TRACING,
    metrics: new Metrics(),
    serving: () => true,
    keyed: (_call, handle) => handle(),
    databaseSilentForMs: () => 0,
    draining: () => false,
  });
});
afterEach(async () => {
  await sse.stop();
  await bus.stop();
  await stack.stop();
  await db.drop();
});

const ask = (path: string, principal: Principal, headers: Record<string, string> = {}) =>
  app.request(path, { headers: { "x-test-principal": JSON.stringify(principal), ...headers } });

/** Reads a stream as it comes. */
const listen = async (path: string, principal: Principal, headers: Record<string, string> = {}) => {
  const response = await ask(path, principal, headers);
  expect(response.status).toBe(200);
  let text = "";
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  const done = (async () => {
    for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) text += part.value;
  })();
  await eventually(() => text.includes("id: "));
  return {
    text: () => text,
    lastId: () => [...text.matchAll(/^id: (.*)$/gm)].at(-1)?.[1] ?? "",
    subjects: () => [...text.matchAll(/"subject":"([^"]+)"/g)].map((m) => m[1]),
    done,
  };
};

test.each([
  ["/events", "at least one sub"],
  ["/events?sub=", "invalid sub"],
  ["/events?sub=agent.>.x", "invalid sub"],
  ["/events?sub=ok&sub=a..b", 'invalid sub "a..b"'],
  [`/events?sub=${"a".repeat(257)}`, "invalid sub"],
  [`/events?${"sub=a&".repeat(65)}`, "at most 64"],
])("%s is refused in plain text", async (path, reason) => {
  const response = await ask(path, ADMIN);
  expect(response.status).toBe(400);
  expect(response.headers.get("content-type")).toContain("text/plain");
  expect(await response.text()).toContain(reason);
});

test("nobody and runtime brokers hear nothing", async () => {
  expect((await app.request("/events?sub=>")).status).toBe(401);
  expect((await ask("/events?sub=>", { kind: "runtimeBroker", id: systemRandom.uuid() })).status).toBe(403);
});

test("an agent hears of its own project and of its own messages; a person of what is theirs; an admin everything", async () => {
  const ann = member("ann");
  const [own, other] = [await rows.project({ owner_id: ann.id }), await rows.project({ owner_id: ADMIN.id })];
  const agent = await rows.agent({ project_id: own });
  await bus.catchUp();
  const [asAgent, asAnn, asAdmin] = await Promise.all([
    listen("/events?sub=>", agentPrincipal(agent, own)),
    listen("/events?sub=>", ann),
    listen("/events?sub=>", ADMIN),
  ]);
  await db.query("update projects set name = name || '!'");
  const secret = systemRandom.uuid();
  await rows.message({ project_id: own, agent_id: agent, sender_id: secret, recipient_id: secret });
  await rows.message({ project_id: own, recipient_id: secret });
  await rows.message({ project_id: other, recipient_id: ann.id });
  const later = await rows.project({ owner_id: ann.id });
  await bus.catchUp();
  await eventually(() => asAdmin.subjects().length === 6 && asAnn.subjects().length === 3);
  expect(asAgent.subjects()).toEqual([`project.${own}.updated`, `user.${secret}.message`]);
  expect(asAnn.subjects()).toEqual([`project.${own}.updated`, `user.${ann.id}.message`, `project.${later}.created`]);
});

test("a stream goes on from the id of the header, before one in the query", async () => {
  const first = await listen("/events?sub=project.>", ADMIN);
  const start = first.lastId();
  const one = await rows.project();
  await bus.catchUp();
  await eventually(() => first.subjects().length === 1);
  const two = await rows.project();
  await bus.catchUp();
  const byHeader = await listen(`/events?sub=project.>&lastEventId=${start}`, ADMIN, {
    "last-event-id": first.lastId(),
  });
  for (const name of ["lastEventId", "after"]) {
    const byQuery = await listen(`/events?sub=project.>&${name}=${start}`, ADMIN);
    await eventually(() => byQuery.subjects().length === 2);
    expect(byQuery.subjects()).toEqual([`project.${one}.created`, `project.${two}.created`]);
  }
  const three = await rows.project();
  await bus.catchUp();
  await eventually(() => byHeader.subjects().includes(`project.${three}.created`));
  expect(byHeader.subjects()).not.toContain(`project.${one}.created`);
});

test("the stream of one agent's messages shows the caller's own; an agent that is not there is 404", async () => {
  const agent = await rows.agent({ project_id: await rows.project() });
  const [row] = await db.query<{ project_id: string }>("select project_id from agents");
  const stream = await listen(`/api/v1/agents/${agent}/messages/stream`, ADMIN);
  await rows.message({
    project_id: row?.project_id ?? "",
    agent_id: agent,
    recipient_id: systemRandom.uuid(),
    msg: "not yours",
  });
  await rows.message({ project_id: row?.project_id ?? "", agent_id: agent, recipient_id: ADMIN.id, msg: "yours" });
  await bus.catchUp();
  await eventually(() => stream.text().includes('"msg":"yours"'));
  expect(stream.text()).toContain("event: message\n");
  expect(stream.text()).not.toContain("not yours");
  expect((await ask(`/api/v1/agents/${systemRandom.uuid()}/messages/stream`, ADMIN)).status).toBe(404);
  expect(
    (await ask(`/api/v1/agents/${agent}/messages/stream`, agentPrincipal(agent, row?.project_id ?? ""))).status,
  ).toBe(403);
});

test("a HEAD of a stream is answered as its GET, and leaves no stream open", async () => {
  const headers = { "x-test-principal": JSON.stringify(ADMIN) };
  const response = await app.request("/events?sub=%3E", { method: "HEAD", headers });
  expect([response.status, response.headers.get("content-type")]).toEqual([200, "text/event-stream"]);
  expect(await response.text()).toBe("");
  await eventually(() => sse.count() === 0, 2_000);
});
