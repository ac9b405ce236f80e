import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import {
  createTestDatabase,
  joinRuntimeBroker,
  type SimulatedCredentials,
  SimulatedRuntimeBroker,
  type TestDatabase,
} from "@rootstock/testkit";
import type { Inbound } from "../actions/index.ts";
import { type BrokerHub, callHub, DEVELOPMENT_TOKEN, startBrokerHub } from "./brokers.testing.ts";

let database: TestDatabase;
let hub: BrokerHub;
let accepted: Inbound[];
const project = systemRandom.uuid();
const other = systemRandom.uuid();

beforeEach(async () => {
  database = await createTestDatabase();
  accepted = [];
  hub = await startBrokerHub(database, async (_call, inbound) => {
    accepted.push(inbound);
    const { agentId, message } = inbound;
    return message.msg === "later" ? { status: 202, body: null } : { status: 200, body: { delivered: true, agentId } };
  });
  for (const [id, slug] of [
    [project, "p"],
    [other, "q"],
  ])
    await database.query("insert into projects (id, name, slug, git_remote) values ($1, $2, $2, 'host/o/r')", [
      id,
      slug,
    ]);
});

afterEach(async () => {
  await hub.stop();
  await database.drop();
});

const joined = (name: string, autoProvide = false): Promise<SimulatedCredentials> =>
  joinRuntimeBroker({ hubUrl: hub.url, token: DEVELOPMENT_TOKEN, name, autoProvide });
const provide = (runtimeBroker: string, localPath: string | null = null) =>
  database.query("insert into project_providers (project_id, runtime_broker_id, local_path) values ($1, $2, $3)", [
    project,
    runtimeBroker,
    localPath,
  ]);
const names = (body: Record<string, unknown>): unknown[] =>
  (body.brokers as Record<string, unknown>[]).map((b) => b.name);

test("the list: newest first, filters, providers with their path and whoever provides for all", async () => {
  const one = await joined("one");
  await joined("two");
  await joined("three", true);
  await provide(one.brokerId, "/home/user/p");
  const list = async (query = "") => (await callHub(hub, "GET", `/api/v1/runtime-brokers${query}`)).body;
  expect(await list()).toMatchObject({ totalCount: 3 });
  expect(names(await list())).toEqual(["three", "two", "one"]);
  expect(names(await list("?name=TWO"))).toEqual(["two"]);
  expect(names(await list("?status=offline"))).toEqual([]);
  expect(names(await list(`?projectId=${project}`))).toEqual(["three", "one"]);
  expect(names(await list(`?groveId=${project}&projectId=${project}`))).toEqual(["three", "one"]);
  expect((await list(`?projectId=${project}`)).brokers).toMatchObject([{}, { localPath: "/home/user/p" }]);
  expect(names(await list(`?projectId=${systemRandom.uuid()}`))).toEqual(["three"]);
  expect((await callHub(hub, "GET", "/api/v1/runtime-brokers?projectId=p")).status).toBe(400);
});

test("pages follow one another", async () => {
  for (const name of ["one", "two", "three"]) await joined(name);
  const page = async (cursor = "") => (await callHub(hub, "GET", `/api/v1/runtime-brokers?limit=2${cursor}`)).body;
  const first = await page();
  expect([names(first), first.totalCount]).toEqual([["three", "two"], 3]);
  const second = await page(`&cursor=${first.nextCursor}`);
  expect([names(second), second.nextCursor]).toEqual([["one"], undefined]);
  expect((await callHub(hub, "GET", "/api/v1/runtime-brokers?cursor=x")).status).toBe(400);
});

test("one is found by id, changed and deleted; a name is taken once", async () => {
  const [one, two] = [await joined("one"), await joined("two")];
  const path = `/api/v1/runtime-brokers/${one.brokerId}`;
  expect((await callHub(hub, "GET", path)).body).toMatchObject({ id: one.brokerId, name: "one" });
  const patched = await callHub(hub, "PATCH", path, {
    name: "Number One",
    labels: { zone: "a" },
    annotations: { a: "b" },
  });
  expect(patched).toMatchObject({
    status: 200,
    body: { name: "Number One", slug: "number-one", labels: { zone: "a" } },
  });
  expect(patched.body.annotations).toBeUndefined();
  expect((await callHub(hub, "PATCH", path, { name: "TWO" })).status).toBe(409);
  expect((await callHub(hub, "PATCH", path, {})).body).toMatchObject({ name: "Number One" });
  await provide(two.brokerId);
  await database.query("update projects set default_runtime_broker_id = $1", [two.brokerId]);
  expect((await callHub(hub, "DELETE", `/api/v1/runtime-brokers/${two.brokerId}`)).status).toBe(204);
  const left = await database.query("select default_runtime_broker_id as d from projects where id = $1", [project]);
  expect(left).toEqual([{ d: null }]);
  for (const missing of [systemRandom.uuid(), "devbox", "'"])
    expect((await callHub(hub, "GET", `/api/v1/runtime-brokers/${missing}`)).status).toBe(404);
});

test("its projects, with how many agents it runs there", async () => {
  const one = await joined("one");
  await provide(one.brokerId, "/home/user/p");
  for (const slug of ["a", "b"])
    await database.query(
      "insert into agents (id, project_id, slug, name, runtime_broker_id) values ($1, $2, $3, $3, $4)",
      [systemRandom.uuid(), project, slug, one.brokerId],
    );
  const answer = await callHub(hub, "GET", `/api/v1/runtime-brokers/${one.brokerId}/projects`);
  expect(answer.body).toEqual({
    projects: [
      { projectId: project, projectName: "p", gitRemote: "host/o/r", agentCount: 2, localPath: "/home/user/p" },
    ],
  });
});

test("what is not an upgrade is told so", async () => {
  expect(await callHub(hub, "GET", "/api/v1/runtime-brokers/connect")).toMatchObject({
    status: 400,
    body: { error: { code: "invalid_request" } },
  });
});

test("plugins: the projects of the runtime broker, and messages to their agents only", async () => {
  const credentials = await joined("one");
  const machine = new SimulatedRuntimeBroker({ hubUrl: hub.url, credentials });
  await provide(credentials.brokerId);
  const agentId = systemRandom.uuid();
  await database.query("insert into agents (id, project_id, slug, name) values ($1, $2, 'a', 'a')", [agentId, project]);
  const projects = await machine.fetch("GET", "/api/v1/broker/projects");
  expect(await projects.json()).toEqual({ projects: [{ id: project, name: "p", slug: "p" }] });
  const send = (topic: string, msg = "hello") =>
    machine.fetch("POST", "/api/v1/broker/inbound", { topic, message: { msg } }, { "x-scion-plugin-name": "chat" });
  const topic = `scion.project.${project}.agent.a.messages`;
  const delivered = await send(topic);
  expect([delivered.status, await delivered.json()]).toEqual([200, { delivered: true, agentId }]);
  const deferred = await send(topic.replace("project", "grove"), "later");
  expect([deferred.status, await deferred.text()]).toEqual([202, ""]);
  expect(accepted.map((m) => [m.agentId, m.message.msg, m.plugin])).toEqual([
    [agentId, "hello", "chat"],
    [agentId, "later", "chat"],
  ]);
  expect((await send("scion.project.p.agent.a.messages")).status).toBe(400);
  expect((await send("news")).status).toBe(400);
  expect((await send(topic.replace(project, other))).status).toBe(404);
  expect((await send(topic.replace(".a.", ".b."))).status).toBe(404);
  expect(accepted).toHaveLength(2);
  expect(await callHub(hub, "GET", "/api/v1/broker/projects")).toMatchObject({
    status: 401,
    body: { error: { code: "broker_auth_failed" } },
  });
});

test("without anybody to accept them, messages of plugins are refused with 503", async () => {
  const plain = await startBrokerHub(database);
  try {
    const credentials = await joined("one");
    await provide(credentials.brokerId);
    await database.query("insert into agents (id, project_id, slug, name) values ($1, $2, 'a', 'a')", [
      systemRandom.uuid(),
      project,
    ]);
    const machine = new SimulatedRuntimeBroker({ hubUrl: plain.url, credentials });
    const topic = `scion.project.${project}.agent.a.messages`;
    expect((await machine.fetch("POST", "/api/v1/broker/inbound", { topic, message: { msg: "x" } })).status).toBe(503);
  } finally {
    await plain.stop();
  }
});
