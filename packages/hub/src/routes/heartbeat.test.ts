import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import {
  createTestDatabase,
  eventually,
  joinRuntimeBroker,
  type SimulatedCredentials,
  SimulatedRuntimeBroker,
  type TestDatabase,
} from "@rootstock/testkit";
import pg from "pg";
import { type BrokerHub, callHub, DEVELOPMENT_TOKEN, startBrokerHub } from "./brokers.testing.ts";

let database: TestDatabase;
let hub: BrokerHub;
let credentials: SimulatedCredentials;
let machine: SimulatedRuntimeBroker;
const project = systemRandom.uuid();

beforeEach(async () => {
  database = await createTestDatabase();
  hub = await startBrokerHub(database);
  credentials = await joinRuntimeBroker({ hubUrl: hub.url, token: DEVELOPMENT_TOKEN, name: "devbox" });
  machine = new SimulatedRuntimeBroker({ hubUrl: hub.url, credentials });
  await database.query("insert into projects (id, name, slug) values ($1, 'p', 'p')", [project]);
});

afterEach(async () => {
  await machine.stop();
  await hub.stop();
  await database.drop();
});

const agent = async (slug: string, columns: Readonly<Record<string, unknown>> = {}): Promise<string> => {
  const id = systemRandom.uuid();
  const row = {
    id,
    project_id: project,
    slug,
    name: slug,
    runtime_broker_id: credentials.brokerId,
    phase: "running",
    ...columns,
  };
  const names = Object.keys(row);
  await database.query(
    `insert into agents (${names.join(", ")}) values (${names.map((_, i) => `$${i + 1}`).join(", ")})`,
    Object.values(row),
  );
  await database.query("update agents set updated = now() - interval '10 minutes'");
  return id;
};

interface Shown extends Record<string, unknown> {
  readonly slug: string;
}

const shown = async (slug: string): Promise<Shown> => {
  const [row] = await database.query<Shown>(
    `select slug, phase, activity, message, container_status, exit_code, applied_config, last_seen is not null as seen,
       running_since is not null as running, ready_at is not null as ready from agents where slug = $1`,
    [slug],
  );
  if (!row) throw new Error("no agent");
  return row;
};

/** As the unmodified runtime broker sends it: the same list twice. */
const listing = (...agents: readonly object[]) => {
  const projects = [{ projectId: project, groveId: project, agentCount: agents.length, agents }];
  return { status: "online", projects, groves: projects };
};

const status = async (): Promise<string> => {
  const [row] = await database.query<{ status: string }>("select status from runtime_brokers where id = $1", [
    credentials.brokerId,
  ]);
  return row?.status ?? "none";
};

test("a runtime broker that is deleted while its heartbeat is written is unknown", async () => {
  await database.query("delete from runtime_broker_heartbeats");
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  await client.query("begin");
  await client.query("delete from runtime_brokers where id = $1", [credentials.brokerId]);
  const beating = machine.heartbeat();
  const waiting = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
  await eventually(async () => (await database.query(waiting)).length > 0);
  await client.query("commit");
  expect((await beating).status).toBe(404);
  await client.end();
});

test("a heartbeat is answered 200 with nothing, and is stored when it is answered", async () => {
  await database.query("update runtime_broker_heartbeats set last_heartbeat = '2026-01-01'");
  const response = await machine.heartbeat();
  expect([response.status, await response.text()]).toEqual([200, ""]);
  const [row] = await database.query<{ recent: boolean }>(
    "select last_heartbeat > now() - interval '10 seconds' as recent from runtime_broker_heartbeats",
  );
  expect(row?.recent).toBe(true);
});

test("reports change what they say, of the runtime broker's own agents, in projects that have an id", async () => {
  const { brokerId: foreign } = await joinRuntimeBroker({ hubUrl: hub.url, token: DEVELOPMENT_TOKEN, name: "other" });
  await agent("up", { phase: "starting" });
  await agent("crashed", { activity: "working" });
  await agent("foreign", { runtime_broker_id: foreign });
  await agent("gone", { deleted_at: "2026-01-01" });
  const before = hub.plane.announced.changed;
  const response = await machine.heartbeat({
    ...listing(
      {
        slug: "up",
        status: "resumed",
        phase: "resumed",
        containerStatus: "Up 1 second ago",
        harnessAuth: "api-key",
        profile: "local",
      },
      { slug: "crashed", status: "stopped", phase: "stopped", containerStatus: "Exited (137) 2 seconds ago" },
      { slug: "foreign", status: "stopped", phase: "stopped" },
      { slug: "gone", status: "stopped", phase: "stopped", containerStatus: "Exited" },
      { slug: "unknown", status: "running", phase: "running" },
    ),
  });
  expect(response.status).toBe(200);
  expect(await shown("up")).toMatchObject({
    phase: "running",
    container_status: "Up 1 second ago",
    applied_config: { harnessAuth: "api-key", profile: "local" },
    seen: true,
    running: true,
    ready: false,
  });
  expect(await shown("crashed")).toMatchObject({
    phase: "error",
    activity: null,
    exit_code: 137,
    message: "Agent crashed with exit code 137",
  });
  expect(await shown("foreign")).toMatchObject({ phase: "running", seen: false });
  expect(await shown("gone")).toMatchObject({ container_status: null });
  expect(hub.plane.announced.changed).toBeGreaterThan(before);
  expect(
    (await machine.heartbeat({ projects: [{ projectId: "default", agents: [{ slug: "up", phase: "stopped" }] }] }))
      .status,
  ).toBe(200);
  expect(await shown("up")).toMatchObject({ phase: "running" });
});

test("a heartbeat that says nothing new writes no change", async () => {
  await agent("a", { container_status: "Up", activity: "thinking" });
  const changes = async () =>
    (await database.query<{ n: number }>("select count(*)::int as n from change_log where entity = 'agent'"))[0]?.n;
  const before = await changes();
  await machine.heartbeat(listing({ slug: "a", phase: "running", activity: "thinking", containerStatus: "Up" }));
  expect(await changes()).toBe(before);
  expect(await shown("a")).toMatchObject({ seen: true });
});

test("extras of newer runtime brokers are accepted, exit code and capabilities kept", async () => {
  await agent("a");
  const response = await machine.heartbeat({
    ...listing({ slug: "a", phase: "stopped", exitCode: 3, exitReason: "out of memory", runtimeTarget: "t1" }),
    capabilities: { webPty: false, attach: true },
    inventory: { targets: [{ id: "t1", runtime: "podman", complete: true }] },
    startsInFlight: [{ projectId: project, slug: "a" }],
    defaultProfile: "local",
  });
  expect(response.status).toBe(200);
  expect(await shown("a")).toMatchObject({ phase: "error", exit_code: 3, message: "out of memory" });
  const [row] = await database.query<{ capabilities: unknown }>("select capabilities from runtime_brokers");
  expect(row?.capabilities).toEqual({ webPty: false, attach: true });
});

test("without a socket a heartbeat makes nobody online once the grace is over", async () => {
  const away = (seconds: number) =>
    database.query(
      "update runtime_brokers set status = 'offline', disconnected_at = now() - $1 * interval '1 second'",
      [seconds],
    );
  await away(30);
  await machine.heartbeat();
  expect(await status()).toBe("online");
  await away(120);
  await machine.heartbeat();
  expect(await status()).toBe("offline");
  await machine.connect();
  await database.query("update runtime_brokers set status = 'offline'");
  await machine.heartbeat({ status: "degraded" });
  expect(await status()).toBe("degraded");
});

test("a runtime broker speaks for itself only, and nobody else for it", async () => {
  const other = await joinRuntimeBroker({ hubUrl: hub.url, token: DEVELOPMENT_TOKEN, name: "other" });
  const path = (id: string) => `/api/v1/runtime-brokers/${id}/heartbeat`;
  expect((await machine.fetch("POST", path(other.brokerId), { status: "online" })).status).toBe(403);
  expect((await machine.fetch("POST", path("devbox"), { status: "online" })).status).toBe(400);
  expect((await callHub(hub, "POST", path(credentials.brokerId), { status: "online" })).status).toBe(403);
  expect((await callHub(hub, "POST", path(credentials.brokerId), {}, "")).status).toBe(401);
});

test.each<[string, object]>([
  ["the status", { status: "splendid" }],
  ["the projects", { projects: "all" }],
  ["an agent's slug", { projects: [{ projectId: project, agents: [{ phase: "running" }] }] }],
  ["an exit code", { projects: [{ projectId: project, agents: [{ slug: "a", exitCode: 1e12 }] }] }],
])("a heartbeat with a mistake in %s is refused whole", async (_, body) => {
  const response = await machine.heartbeat(body);
  expect(response.status).toBe(400);
  expect(await response.json()).toMatchObject({
    error: { code: "validation_error", details: { field: expect.anything() } },
  });
});

test("nulls and empty texts say nothing", async () => {
  await agent("a", { activity: "thinking", message: "m", container_status: "Up" });
  const response = await machine.heartbeat({
    status: "",
    projects: null,
    groves: [
      {
        projectId: null,
        groveId: project,
        agents: [{ slug: "a", phase: "", activity: null, message: "", containerStatus: null }],
      },
    ],
    capabilities: null,
  });
  expect(response.status).toBe(200);
  expect(await shown("a")).toMatchObject({ phase: "running", activity: "thinking", message: "m", seen: true });
});

test("a replayed heartbeat is refused, here and at another replica", async () => {
  const other = await startBrokerHub(database);
  try {
    const path = `/api/v1/runtime-brokers/${credentials.brokerId}/heartbeat`;
    const body = JSON.stringify({ status: "online" });
    const headers = { "content-type": "application/json", ...machine.sign("POST", path, "", Buffer.from(body)) };
    const send = (url: string, sent = headers, text = body) =>
      fetch(url + path, { method: "POST", headers: sent, body: text });
    expect((await send(other.url, headers, '{"status":"offline"}')).status).toBe(401);
    expect((await send(hub.url)).status).toBe(200);
    for (const url of [hub.url, other.url]) {
      const replayed = await send(url);
      expect(replayed.status).toBe(401);
      expect(await replayed.json()).toMatchObject({
        error: { code: "broker_auth_failed", message: "nonce already used" },
      });
    }
    for (const wrong of [
      { "X-Scion-Timestamp": String(Math.floor(Date.now() / 1000) - 400) },
      { "X-Scion-Timestamp": "soon" },
      { "X-Scion-Nonce": "" },
      { "X-Scion-Nonce": "x".repeat(500) },
      { "X-Scion-Signature": "AAAA" },
      { "X-Scion-Broker-ID": systemRandom.uuid() },
      { "X-Scion-Broker-ID": "devbox" },
      { "X-Scion-Signed-Headers": "content type;\u00e4" },
    ]) {
      const response = await machine.fetch("POST", path, { status: "online" }, wrong);
      expect([wrong, response.status]).toEqual([wrong, 401]);
    }
  } finally {
    await other.stop();
  }
});

test("hundreds of heartbeats at once, through two replicas, are all stored", async () => {
  const other = await startBrokerHub(database);
  try {
    for (let i = 0; i < 20; i += 1) await agent(`a${i}`, { phase: "starting" });
    const body = listing(...Array.from({ length: 20 }, (_, i) => ({ slug: `a${i}`, phase: "running" })));
    const twin = new SimulatedRuntimeBroker({ hubUrl: other.url, credentials });
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, i) => (i % 2 === 0 ? machine : twin).heartbeat(body)),
    );
    expect(new Set(answers.map((a) => a.status))).toEqual(new Set([200]));
    const [row] = await database.query<{ n: number }>("select count(*)::int as n from agents where phase = 'running'");
    expect(row?.n).toBe(20);
  } finally {
    await other.stop();
  }
});

test("every heartbeat tells how long a container has been up; only another state of it is an event", async () => {
  await agent("steady", { container_status: "Up 5 seconds" });
  const events = async () =>
    (await database.query("select id from change_log where entity = 'agent' and op = 'U'")).length;
  const before = await events();
  for (const containerStatus of ["Up 6 seconds", "Up About a minute", "Up 2 hours"]) {
    const beat = await machine.heartbeat(listing({ slug: "steady", phase: "running", containerStatus }));
    expect(beat.status).toBe(200);
    expect((await shown("steady")).container_status).toBe(containerStatus);
  }
  expect(await events()).toBe(before);
  await machine.heartbeat(listing({ slug: "steady", phase: "running", containerStatus: "Up 2 hours (Paused)" }));
  expect(await events()).toBe(before + 1);
});
