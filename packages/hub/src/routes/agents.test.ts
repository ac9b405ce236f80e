import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { AGENT_SCOPES, NOBODY, type Principal } from "../auth/index.ts";
import {
  ADMIN,
  agentPrincipal,
  at,
  listAt,
  makeAgent,
  makeProject,
  makeRuntimeBroker,
  member,
  startTestHub,
  type TestHub,
  textAt,
} from "./routes.testing.ts";

let hub: TestHub;
let machine: string;
let project: string;
beforeAll(async () => {
  hub = await startTestHub();
  machine = await makeRuntimeBroker(hub, "devbox");
  project = await makeProject(hub, ADMIN, "smoke");
});
afterAll(() => hub.stop());

const admin = () => hub.as(ADMIN);
const ZERO = "0001-01-01T00:00:00Z";
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const UNKNOWN = "0e0e0e0e-0000-4000-8000-00000000dead";

const slugs = async (by: Principal, path: string): Promise<string[]> =>
  listAt((await hub.as(by).get(path)).body, "agents").map((a) => textAt(a, "slug"));

test("an agent has the fields and types that clients read, in lists and alone", async () => {
  const id = await makeAgent(hub, project, "a1", machine);
  const listed = await admin().get(`/api/v1/projects/${project}/agents?groveId=${project}&projectId=${project}`);
  expect(listed.body).toEqual({
    agents: [
      {
        id,
        slug: "a1",
        name: "a1",
        template: "default",
        projectId: project,
        groveId: project,
        project: "smoke",
        visibility: "private",
        phase: "created",
        startedAt: ZERO,
        lastSeen: ZERO,
        lastActivityEvent: ZERO,
        deletedAt: ZERO,
        runtimeBrokerId: machine,
        runtimeBrokerName: "devbox",
        harnessConfig: "gemini",
        harnessAuth: "api-key",
        createdBy: ADMIN.id,
        ownerId: ADMIN.id,
        detached: true,
        created: expect.stringMatching(ISO),
        updated: expect.stringMatching(ISO),
        stateVersion: 1,
        ancestry: [ADMIN.id],
        appliedConfig: { harnessConfig: "gemini", harnessAuth: "api-key", task: "say hello" },
        _capabilities: { actions: ["read", "update", "delete", "start", "stop", "message", "attach"] },
      },
    ],
    totalCount: 1,
    feedCursor: "cursor",
    serverTime: expect.stringMatching(ISO),
    _capabilities: { actions: ["create", "list", "stop_all"] },
  });
  const shown = at(listed.body, "agents", 0) as object;
  expect((await admin().get(`/api/v1/agents/${id}`)).body).toEqual(shown);
  const { _capabilities, ...bare } = shown as { _capabilities: unknown };
  for (const path of ["a1", id, "A1"])
    expect((await admin().get(`/api/v1/projects/${project}__smoke/agents/${path}`)).body).toEqual(bare);
  expect((await admin().get(`/api/v1/groves/${project}/agents/a1`)).body).toEqual(bare);
});

test("the clock of a list is not later than what is created after it", async () => {
  const p = await makeProject(hub, ADMIN, "watermark");
  const before = textAt((await admin().get(`/api/v1/projects/${p}/agents`)).body, "serverTime");
  await makeAgent(hub, p, "later", machine);
  const created = textAt((await admin().get(`/api/v1/projects/${p}/agents`)).body, "agents", 0, "created");
  expect(created >= before).toBe(true);
});

test("unknown, malformed and global slugs are 404", async () => {
  for (const path of [`/api/v1/agents/${UNKNOWN}`, "/api/v1/agents/a1", "/api/v1/agents/a%00"])
    expect((await admin().get(path)).status).toBe(404);
  for (const name of [UNKNOWN, "nobody", "%00", "..."])
    expect((await admin().get(`/api/v1/projects/${project}/agents/${name}`)).status).toBe(404);
  expect((await admin().get(`/api/v1/projects/${UNKNOWN}/agents`)).status).toBe(404);
  expect((await admin().get("/api/v1/projects/smoke/agents")).status).toBe(404);
});

test("filters: each narrows, together they all hold; ids that are none are skipped", async () => {
  const p = await makeProject(hub, ADMIN, "filters");
  const other = await makeRuntimeBroker(hub, "other-machine");
  const owner = member("owner");
  const child = await makeAgent(hub, p, "child", other, { owner: owner.id, ancestry: [ADMIN.id, owner.id] });
  const plain = await makeAgent(hub, p, "plain", machine);
  const gone = await makeAgent(hub, p, "gone", machine);
  await hub.test.query('update agents set phase = \'running\', labels = \'{"team":"red","x":"="}\' where id = $1', [
    plain,
  ]);
  await hub.test.query("update agents set deleted_at = now(), phase = 'stopped' where id = $1", [gone]);
  const of = (query: string) => slugs(ADMIN, `/api/v1/projects/${p}/agents?${query}`).then((s) => s.sort());
  expect(await of("")).toEqual(["child", "plain"]);
  expect(await of("includeDeleted=true")).toEqual(["child", "gone", "plain"]);
  expect(await of("phase=running")).toEqual(["plain"]);
  expect(await of("phase=resting")).toEqual([]);
  expect(await of(`runtimeBrokerId=${other}`)).toEqual(["child"]);
  expect(await of(`ownerId=${owner.id}`)).toEqual(["child"]);
  expect(await of(`ancestorId=${owner.id}`)).toEqual(["child"]);
  expect(await of("label=team=red&label=x==")).toEqual(["plain"]);
  expect(await of("label=team=red&label=x=1")).toEqual([]);
  expect(await of(`id=${child}&id=${plain}&id=nonsense`)).toEqual(["child", "plain"]);
  expect(await of("id=nonsense")).toEqual([]);
  expect(await of("harnessConfig=gemini&phase=running")).toEqual(["plain"]);
  expect(await slugs(ADMIN, `/api/v1/agents?projectId=${p}&phase=running`)).toEqual(["plain"]);
  for (const bad of ["runtimeBrokerId=x", "ownerId=x", "label=novalue", "cursor=x"])
    expect((await admin().get(`/api/v1/agents?${bad}`)).status).toBe(400);
  expect((await admin().get("/api/v1/agents?limit=abc&phase=")).status).toBe(200);
});

test("mine and shared: owned, and of others in the caller's projects", async () => {
  const alice = member("alice");
  const bob = member("bob");
  const hers = await makeProject(hub, alice, "alices");
  await makeAgent(hub, hers, "by-alice", machine, { owner: alice.id });
  await makeAgent(hub, hers, "by-bob", machine, { owner: bob.id });
  await makeAgent(hub, project, "bobs-own", machine, { owner: bob.id });
  const of = (by: Principal, query: string) => slugs(by, `/api/v1/agents?${query}`).then((s) => s.sort());
  expect(await of(alice, "scope=mine")).toEqual(["by-alice"]);
  expect(await of(alice, "scope=shared")).toEqual(["by-bob"]);
  expect(await of(alice, "mine=true")).toEqual(["by-alice", "by-bob"]);
  expect(await of(alice, "")).toEqual(["by-alice", "by-bob"]);
  expect(await of(bob, "")).toEqual(["bobs-own", "by-bob"]);
});

test("paging walks every agent once, also when they were created in the same millisecond", async () => {
  const p = await makeProject(hub, ADMIN, "paged");
  for (let i = 0; i < 7; i += 1) await makeAgent(hub, p, `n${i}`, machine);
  await hub.test.query("update agents set created = '2026-01-01T00:00:00.123Z' where project_id = $1", [p]);
  const whole = await slugs(ADMIN, `/api/v1/projects/${p}/agents`);
  const seen: string[] = [];
  let path = `/api/v1/projects/${p}/agents?limit=3`;
  for (let page = 0; page < 3; page += 1) {
    const { body } = await admin().get(path);
    expect(at(body, "totalCount")).toBe(7);
    seen.push(...listAt(body, "agents").map((a) => textAt(a, "slug")));
    if (page < 2) path = `/api/v1/projects/${p}/agents?limit=3&cursor=${textAt(body, "nextCursor")}`;
    else expect(body).not.toHaveProperty("nextCursor");
  }
  expect(seen).toEqual(whole);
  expect(new Set(seen).size).toBe(7);
});

test("a first page without a limit holds far more than the fifty that the CLI would take for all", async () => {
  const p = await makeProject(hub, ADMIN, "many");
  await hub.test.query(
    `insert into agents (id, project_id, slug, name) select gen_random_uuid(), $1, 's' || n, 's' || n
     from generate_series(1, 1005) n`,
    [p],
  );
  const first = await admin().get(`/api/v1/projects/${p}/agents`);
  expect(listAt(first.body, "agents")).toHaveLength(1000);
  expect(at(first.body, "totalCount")).toBe(1005);
  const second = await admin().get(`/api/v1/projects/${p}/agents?cursor=${textAt(first.body, "nextCursor")}`);
  expect(listAt(second.body, "agents")).toHaveLength(5);
  expect(listAt((await admin().get(`/api/v1/projects/${p}/agents?limit=9999`)).body, "agents")).toHaveLength(500);
});

test("who reads agents: an agent its project's, a machine those it runs, strangers nothing; none learns what exists", async () => {
  const p = await makeProject(hub, ADMIN, "readers");
  const elsewhere = await makeProject(hub, ADMIN, "elsewhere");
  const other = await makeRuntimeBroker(hub, "other-reader");
  const a = await makeAgent(hub, p, "a", machine);
  await makeAgent(hub, p, "b", other);
  const foreign = await makeAgent(hub, elsewhere, "foreign", other);
  const asA = agentPrincipal(a, p);
  expect((await slugs(asA, "/api/v1/agents")).sort()).toEqual(["a", "b"]);
  expect((await slugs(asA, `/api/v1/projects/${p}/agents`)).sort()).toEqual(["a", "b"]);
  expect(await slugs({ kind: "runtimeBroker", id: other }, `/api/v1/projects/${p}/agents`)).toEqual(["b"]);
  expect(await slugs(asA, `/api/v1/agents?projectId=${elsewhere}`)).toEqual([]);
  const asMachine: Principal = { kind: "runtimeBroker", id: machine };
  for (const [by, id] of [
    [asA, foreign],
    [member("stranger"), a],
    [asMachine, foreign],
  ] as const) {
    const hidden = await hub.as(by).get(`/api/v1/agents/${id}`);
    const absent = await hub.as(by).get(`/api/v1/agents/${UNKNOWN}`);
    expect(hidden.status).toBe(404);
    expect(at(hidden.body, "error", "message")).toBe(at(absent.body, "error", "message"));
  }
  expect((await hub.as(asA).get(`/api/v1/projects/${elsewhere}/agents`)).status).toBe(404);
  expect((await hub.as(asMachine).get(`/api/v1/agents/${a}`)).status).toBe(200);
  expect((await hub.as(NOBODY).get("/api/v1/agents")).status).toBe(401);
});

test("PATCH changes what is given, counts up, and refuses an outdated version", async () => {
  const id = await makeAgent(hub, project, "patched", machine);
  const path = `/api/v1/agents/${id}`;
  const patched = await admin().send("PATCH", path, { labels: { a: "1" }, taskSummary: "done", stateVersion: 1 });
  expect(patched.body).toMatchObject({ labels: { a: "1" }, taskSummary: "done", stateVersion: 2, name: "patched" });
  expect(patched.body).not.toHaveProperty("_capabilities");
  const refused = await admin().send("PATCH", path, { name: "x", stateVersion: 1 });
  expect(refused.status).toBe(409);
  expect(at(refused.body, "error", "code")).toBe("conflict");
  const below = await admin().send("PATCH", `/api/v1/projects/${project}/agents/patched`, {
    annotations: { b: "2" },
    stateVersion: 0,
  });
  expect(below.body).toMatchObject({ annotations: { b: "2" }, labels: { a: "1" }, taskSummary: "done" });
  expect((await hub.as(agentPrincipal(id, project)).send("PATCH", path, { name: "x" })).status).toBe(403);
  expect((await hub.as(member("m")).send("PATCH", path, { name: "x" })).status).toBe(404);
  const raced = await Promise.all(
    [1, 2, 3].map((n) => admin().send("PATCH", path, { name: `n${n}`, stateVersion: 3 })),
  );
  expect(raced.map((r) => r.status).sort()).toEqual([200, 409, 409]);
});

test("a config changes only while no container runs, and is kept whole", async () => {
  const id = await makeAgent(hub, project, "configured", machine);
  const path = `/api/v1/agents/${id}`;
  const config = { image: "img", model: "m1", env: { A: "first-a-51d0" }, max_turns: 5, telemetry: { on: true } };
  const patched = await admin().send("PATCH", path, { config, gcp_identity: { metadata_mode: "block" } });
  expect(at(patched.body, "appliedConfig")).toEqual({
    harnessConfig: "gemini",
    harnessAuth: "api-key",
    task: "say hello",
    image: "img",
    model: "m1",
    env: { A: "first-a-51d0" },
    inlineConfig: config,
    gcpIdentity: { metadataMode: "block" },
  });
  const assigned = await admin().send("PATCH", path, { gcp_identity: { metadata_mode: "assign" } });
  expect([assigned.status, at(assigned.body, "error", "code")]).toEqual([422, "unprocessable"]);
  expect((await admin().send("PATCH", path, { gcp_identity: { metadata_mode: "magic" } })).status).toBe(400);
  await hub.test.query("update agents set phase = 'running' where id = $1", [id]);
  expect((await admin().send("PATCH", path, { config })).status).toBe(409);
});

test("of a configuration whose values alone change, the feed tells; values that are not given stay", async () => {
  const id = await makeAgent(hub, project, "told", machine);
  const path = `/api/v1/agents/${id}`;
  const told = async () =>
    (await hub.test.query("select 1 from change_log where agent_id = $1 and 'applied_config' = any(changed)", [id]))
      .length;
  await admin().send("PATCH", path, { config: { env: { A: "first-a-51d0", B: "first-b-51d0" } } });
  expect(await told()).toBe(1);
  await admin().send("PATCH", path, { config: { env: { A: "second-a-51d0" } } });
  expect(await told()).toBe(2);
  const kept = await admin().send("PATCH", path, { config: { max_turns: 1 } });
  expect(at(kept.body, "appliedConfig")).toMatchObject({ env: { A: "second-a-51d0" }, inlineConfig: { max_turns: 1 } });
  const emptied = await admin().send("PATCH", path, { config: { env: {} } });
  expect(at(emptied.body, "appliedConfig", "env")).toEqual({});
  expect(emptied.body).not.toHaveProperty("appliedConfig.valuesVersion");
});

test("what its container is given is shown to who may change an agent, not to who merely reads it", async () => {
  const p = await makeProject(hub, ADMIN, "values");
  const id = await makeAgent(hub, p, "keeper", machine);
  const beside = agentPrincipal(await makeAgent(hub, p, "beside", machine), p);
  const config = { env: { API_KEY: "hush-hush" }, mcp_servers: { s: { env: { TOKEN: "hush-hush" } } } };
  await admin().send("PATCH", `/api/v1/agents/${id}`, { config });
  const program: Principal = {
    ...ADMIN,
    limits: { tokenId: UNKNOWN, projectId: p, scopes: ["agent:read", "agent:list", "agent:start"] },
  };
  const places = ["/api/v1/agents", `/api/v1/projects/${p}/agents`];
  for (const path of [...places, ...places.map((place) => `${place}/${id}`)]) {
    const shown = async (by: Principal) => JSON.stringify((await hub.as(by).get(path)).body);
    expect(await shown(ADMIN)).toContain("hush-hush");
    for (const by of [beside, program, { kind: "runtimeBroker", id: machine } as const]) {
      expect(await shown(by)).toContain("keeper");
      expect(await shown(by)).not.toContain("hush-hush");
    }
  }
});

test("an agent's reports move it along, make it ready once, and are answered with JSON", async () => {
  const id = await makeAgent(hub, project, "reporting", machine);
  await hub.test.query("update agents set phase = 'provisioning' where id = $1", [id]);
  const self = hub.as(agentPrincipal(id, project));
  const path = `/api/v1/agents/${id}/status`;
  const cloning = await self.send("POST", path, {
    phase: "cloning",
    status: "cloning",
    message: "Cloning repository",
    metadata: { branch: "main" },
  });
  expect(cloning.status).toBe(200);
  expect(cloning.body).toEqual({ applied: true });
  expect(hub.calls).not.toContain(`onAgentReady ${id}`);
  const changes = hub.changes();
  await self.send("POST", path, {
    phase: "running",
    activity: "working",
    message: "Agent started",
    currentTurns: 0,
    currentModelCalls: 0,
    startedAt: "2026-11-21T02:20:47Z",
  });
  expect(hub.changes()).toBe(changes + 1);
  await self.send("POST", `/api/v1/projects/${project}/agents/reporting/status`, { activity: "thinking" });
  expect(hub.calls.filter((c) => c === `onAgentReady ${id}`)).toHaveLength(1);
  const [row] = await hub.test.query(
    "select running_since is not null as running, ready_at is not null as ready from agents where id = $1",
    [id],
  );
  expect(row).toEqual({ running: true, ready: true });
  expect((await admin().get(`/api/v1/agents/${id}`)).body).toMatchObject({
    phase: "running",
    activity: "thinking",
    message: "Agent started",
    startedAt: "2026-11-21T02:20:47.000Z",
    lastSeen: expect.stringMatching(ISO),
    lastActivityEvent: expect.stringMatching(ISO),
  });
});

test("a heartbeat only says that it was seen: no change for the feed, no version", async () => {
  const id = await makeAgent(hub, project, "beating", machine);
  const changes = hub.changes();
  const beat = await hub
    .as(agentPrincipal(id, project))
    .send("POST", `/api/v1/agents/${id}/status`, { heartbeat: true, status: "working", metadata: {} });
  expect(beat.body).toEqual({ applied: true });
  expect(hub.changes()).toBe(changes);
  const shown = await admin().get(`/api/v1/agents/${id}`);
  expect(shown.body).toMatchObject({ lastSeen: expect.stringMatching(ISO), stateVersion: 1, phase: "created" });
});

test("what a report cannot mean is dropped or refused, and never fails the hub", async () => {
  const id = await makeAgent(hub, project, "odd", machine);
  const self = hub.as(agentPrincipal(id, project));
  const path = `/api/v1/agents/${id}/status`;
  const odd = await self.send("POST", path, { phase: "dreaming", activity: "levitating", startedAt: "yesterday" });
  expect(odd.status).toBe(200);
  expect(at((await admin().get(`/api/v1/agents/${id}`)).body, "phase")).toBe("created");
  for (const startedAt of ["0001-01-01T00:00:00Z", "+275761-01-01T00:00:00Z", "2026-99-99T00:00:00Z"])
    expect((await self.send("POST", path, { startedAt, message: startedAt })).status).toBe(200);
  for (const body of [{ currentTurns: 1e12 }, { currentTurns: -1 }, { phase: 7 }, { message: "\u0000" }, [], "{", "[1"])
    expect((await self.send("POST", path, body)).status).toBe(400);
});

test("who may report: itself with the scope, the machine that runs it, admins", async () => {
  const id = await makeAgent(hub, project, "guarded", machine);
  const sibling = await makeAgent(hub, project, "sibling", machine);
  const path = `/api/v1/agents/${id}/status`;
  const status = (by: Principal) =>
    hub
      .as(by)
      .send("POST", path, { message: "x" })
      .then((a) => a.status);
  expect(await status(agentPrincipal(id, project))).toBe(200);
  expect(await status(agentPrincipal(id, project, []))).toBe(403);
  expect(await status(agentPrincipal(sibling, project))).toBe(403);
  expect(await status(agentPrincipal(UNKNOWN, UNKNOWN))).toBe(404);
  expect(await status({ kind: "runtimeBroker", id: machine })).toBe(200);
  expect(await status({ kind: "runtimeBroker", id: UNKNOWN })).toBe(404);
  expect(await status(ADMIN)).toBe(200);
  expect(await status(member("m"))).toBe(404);
  const owner = member("owner-of-guarded");
  await hub.test.query("update agents set owner_id = $1 where id = $2", [owner.id, id]);
  expect(await status(owner)).toBe(403);
});

test("a token refresh answers exactly what the tool reads, with the row's version, to the agent alone", async () => {
  const id = await makeAgent(hub, project, "tokens", machine);
  await hub.test.query("update agents set token_version = 4 where id = $1", [id]);
  const path = `/api/v1/agents/${id}/token/refresh`;
  const fresh = await hub.as(agentPrincipal(id, project)).send("POST", path);
  expect(fresh.status).toBe(200);
  expect(fresh.body).toEqual({
    token: `token-of-${id}-4`,
    expires_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
    tokens: [{ layer: "app", type: "scion_access", value: `token-of-${id}-4`, expiresIn: expect.any(Number) }],
  });
  expect((await hub.as(agentPrincipal(id, project, [AGENT_SCOPES.reportStatus])).send("POST", path)).status).toBe(403);
  expect((await admin().send("POST", path)).status).toBe(403);
  const github = await hub.as(agentPrincipal(id, project)).send("POST", `/api/v1/agents/${id}/refresh-token`);
  expect(github.status).toBe(501);
  await hub.test.query("update agents set deleted_at = now() where id = $1", [id]);
  expect((await hub.as(agentPrincipal(id, project)).send("POST", path)).status).toBe(401);
});

test("a deleted agent is found by its slug until a new one has the name", async () => {
  const old = await makeAgent(hub, project, "reborn", machine);
  await hub.test.query("update agents set deleted_at = now() where id = $1", [old]);
  const path = `/api/v1/projects/${project}/agents/reborn`;
  const found = await admin().get(path);
  expect(at(found.body, "id")).toBe(old);
  expect(at(found.body, "deletedAt")).not.toBe(ZERO);
  const fresh = await makeAgent(hub, project, "reborn", machine);
  expect(at((await admin().get(path)).body, "id")).toBe(fresh);
});
