import { afterAll, beforeAll, beforeEach, expect, test } from "@jest/globals";
import { type Clock, systemClock } from "@rootstock/service";
import { hubStatistics } from "@rootstock/store";
import { NOBODY } from "../auth/index.ts";
import { Metrics } from "../metrics/index.ts";
import { goDuration, type HealthDeps, healthRoutes } from "./health.ts";
import { metricsRoutes } from "./metrics.ts";
import {
  ADMIN,
  agentPrincipal,
  at,
  makeAgent,
  makeProject,
  makeRuntimeBroker,
  member,
  startTestHub,
  type TestHub,
} from "./routes.testing.ts";

const KNOWN_SCHEMA = 6;
let hub: TestHub;
/** What the probes answer; a test changes what it needs. */
let state: Omit<HealthDeps, "clock" | "version" | "knownSchema">;
let now = 0;
const clock: Clock = { ...systemClock, elapsed: () => now };
const metrics = new Metrics();

beforeAll(async () => {
  const deps: HealthDeps = {
    clock,
    version: "1.2.3",
    knownSchema: KNOWN_SCHEMA,
    statistics: () => state.statistics(),
    schema: () => state.schema(),
    signals: () => state.signals(),
    coordination: () => state.coordination(),
    draining: () => state.draining(),
  };
  hub = await startTestHub([...healthRoutes(deps), ...metricsRoutes(metrics)]);
});
afterAll(() => hub.stop());
beforeEach(() => {
  now += 60_000;
  const { db } = hub.database;
  state = {
    statistics: () => hubStatistics(db),
    schema: async () => ({ version: KNOWN_SCHEMA, minCompatible: KNOWN_SCHEMA, readOnly: false }),
    signals: () => ({ healthy: true, roundTripMs: 1.234 }),
    coordination: () => ({ held: true, pooled: false }),
    draining: () => false,
  };
});

const nobody = () => hub.as(NOBODY);
const down = () => Promise.reject(new Error("connection refused"));

test("health tells what lives, without a credential, and below `hub` for clients of a hub with a web server", async () => {
  const machine = await makeRuntimeBroker(hub, "devbox");
  const project = await makeProject(hub, ADMIN, "healthy");
  const agent = await makeAgent(hub, project, "a1", machine);
  await hub.test.query("update agents set phase = 'running' where id = $1", [agent]);
  for (const path of ["/healthz", "/health"]) {
    const { status, body } = await nobody().get(path);
    expect(status).toBe(200);
    const self = {
      status: "healthy",
      version: "1.2.3",
      scionVersion: "1.2.3",
      uptime: expect.stringMatching(/^(\d+h)?(\d+m)?\d+s$/),
      checks: { database: "healthy" },
      stats: { activeAgents: 1, projects: 1 },
    };
    expect(body).toEqual({ ...self, hub: self });
  }
});

test("health is 200 and degraded while the database is away, and looks once for many callers", async () => {
  let looks = 0;
  state = {
    ...state,
    statistics: () => {
      looks += 1;
      return down();
    },
  };
  const answers = await Promise.all(Array.from({ length: 20 }, () => nobody().get("/healthz")));
  for (const { status, body } of answers) {
    expect(status).toBe(200);
    expect(body).toMatchObject({ status: "degraded", checks: { database: "unhealthy" }, stats: {} });
  }
  expect(looks).toBe(1);
});

test("ready tells each part; degraded signals and coordination are told and no reason to stay away", async () => {
  expect((await nobody().get("/readyz")).body).toEqual({
    status: "ready",
    checks: { database: "ok", signals: "ok", coordination: "ok", schema: "ok", signalRoundTripMs: 1.2 },
  });
  state = { ...state, signals: () => ({ healthy: false }), coordination: () => ({ held: true, pooled: true }) };
  const degraded = await nobody().get("/readyz");
  expect(degraded.status).toBe(200);
  expect(at(degraded.body, "checks")).toEqual({
    database: "ok",
    signals: "degraded",
    coordination: "degraded",
    schema: "ok",
  });
});

test.each<[string, () => Partial<typeof state>, string]>([
  ["the database is down", () => ({ schema: down }), "the database does not answer"],
  [
    "the database takes no writes",
    () => ({ schema: async () => ({ version: KNOWN_SCHEMA, minCompatible: KNOWN_SCHEMA, readOnly: true }) }),
    "the database takes no writes",
  ],
  ["the replica drains", () => ({ draining: () => true }), "draining"],
  [
    "the schema is too new",
    () => ({ schema: async () => ({ version: 9, minCompatible: 8, readOnly: false }) }),
    "schema: this release is too old for the database",
  ],
  [
    "migrations are missing",
    () => ({ schema: async () => ({ version: 2, minCompatible: 2, readOnly: false }) }),
    "schema: migrations are pending",
  ],
])("not ready: %s", async (_, change, reason) => {
  state = { ...state, ...change() };
  const { status, body } = await nobody().get("/readyz");
  expect(status).toBe(503);
  expect(body).toMatchObject({ status: "not_ready", reason });
});

test("a newer schema that is compatible is ready", async () => {
  state = { ...state, schema: async () => ({ version: 9, minCompatible: 3, readOnly: false }) };
  expect((await nobody().get("/readyz")).status).toBe(200);
});

test.each([
  [0, "0s"],
  [48_400, "48s"],
  [348_000, "5m48s"],
  [3_603_000, "1h0m3s"],
  [90_061_000, "25h1m1s"],
])("%i ms is %s", (ms, text) => {
  expect(goDuration(ms)).toBe(text);
});

test("metrics are for admins and collectors", async () => {
  const shown = await hub.as(ADMIN).get("/metrics");
  expect(shown.status).toBe(200);
  expect(shown.headers.get("content-type")).toContain("text/plain");
  expect(shown.body).toContain("rootstock_http_request_seconds");
  expect((await hub.as({ kind: "scraper" }).get("/metrics")).status).toBe(200);
  expect((await hub.as(member("m")).get("/metrics")).status).toBe(403);
  expect((await nobody().get("/metrics")).status).toBe(401);
});

test("who am I", async () => {
  expect((await hub.as(ADMIN).get("/api/v1/auth/me")).body).toEqual({
    id: ADMIN.id,
    email: "dev@localhost",
    displayName: "Development User",
    role: "admin",
  });
  const id = "0e0e0e0e-0000-4000-8000-000000000001";
  expect((await hub.as(agentPrincipal(id, id)).get("/api/v1/auth/me")).body).toEqual({
    id,
    email: "",
    displayName: `agent:${id}`,
    role: "agent",
  });
  expect((await nobody().get("/api/v1/auth/me")).status).toBe(401);
  expect((await hub.as(ADMIN).get("/api/v1/settings/public")).body).toEqual({ telemetryEnabled: false });
});

test("lists that the CLI looks through are empty", async () => {
  for (const [path, name] of [
    ["/api/v1/templates?name=default&scope=project&status=active", "templates"],
    ["/api/v1/harness-configs", "harnessConfigs"],
    ["/api/v1/skills", "skills"],
  ] as const)
    expect((await hub.as(ADMIN).get(path)).body).toEqual({
      [name]: [],
      totalCount: 0,
      _capabilities: { actions: ["list"] },
    });
  expect((await hub.as(ADMIN).get("/api/v1/notifications/templates")).body).toEqual([]);
});

test.each([
  ["POST", "/api/v1/templates/x/clone"],
  ["GET", "/api/v1/templates/x/download"],
  ["PUT", "/api/v1/env/FOO"],
  ["GET", "/api/v1/secrets"],
  ["POST", "/api/v1/skills/resolve"],
  ["GET", "/api/v1/admin/server-config"],
  ["GET", "/api/v1/runtime-brokers/0e0e0e0e-0000-4000-8000-000000000001/env"],
  ["PUT", "/api/v1/runtime-brokers/0e0e0e0e-0000-4000-8000-000000000001/secrets/KEY"],
  ["POST", "/api/v1/agents/0e0e0e0e-0000-4000-8000-000000000001/refresh-token"],
  ["POST", "/api/v1/agent/gcp-token"],
  ["PUT", "/api/v1/agents/0e0e0e0e-0000-4000-8000-000000000001/secrets/KEY"],
  ["GET", "/api/v1/agents/0e0e0e0e-0000-4000-8000-000000000001/cloud-logs/stream"],
  ["GET", "/api/v1/projects/0e0e0e0e-0000-4000-8000-000000000001/agents/a/message-logs"],
  ["POST", "/api/v1/agents/a/workspace/sync-to/finalize"],
  ["POST", "/api/v1/projects/0e0e0e0e-0000-4000-8000-000000000001/scheduled-events"],
  ["GET", "/api/v1/groves/0e0e0e0e-0000-4000-8000-000000000001/workspace/files/a/b"],
])("%s %s says that it is not configured", async (method, path) => {
  const caller = hub.as(ADMIN);
  const answer = method === "GET" ? await caller.get(path) : await caller.send(method as "POST", path, {});
  expect(answer.status).toBe(501);
  expect(at(answer.body, "error", "code")).toBe("not_implemented");
  expect(at(answer.body, "error", "message")).toContain("not configured");
  expect((await nobody().get(path)).status).toBe(401);
});

test("wrong method 405, wrong path 404, both in the envelope", async () => {
  expect((await hub.as(ADMIN).send("DELETE", "/api/v1/auth/me")).status).toBe(405);
  // Of a path that is served, also where what stands behind it is a part that the hub does not have.
  for (const path of ["/api/v1/templates", "/api/v1/notifications/templates"]) {
    const refused = await hub.as(ADMIN).send("POST", path, {});
    expect([refused.status, at(refused.body, "error", "code")]).toEqual([405, "method_not_allowed"]);
    expect(at(refused.body, "error", "message")).toContain("templates are not configured on this hub");
  }
  expect(at((await hub.as(ADMIN).get("/api/v1/nothing")).body, "error", "code")).toBe("not_found");
});
