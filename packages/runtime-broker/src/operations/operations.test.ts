import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import { Found } from "../testing/found.ts";
import { createBody, PROJECT, query } from "../testing/setup.ts";
import { OperationsScene } from "./operations.testing.ts";

/** An agent from its creation to its end, and what is said of it (spec/01 4.1 to 4.5). */

const HARNESSES = {
  needy: {
    command: "sh",
    args: ["-c", 'printf "key=%s\\n" "$NEEDED_KEY"; cat'],
    taskArgs: [],
    requiredEnv: ["NEEDED_KEY"],
  },
  passing: {
    command: "sh",
    args: ["-c", 'printf "passed=%s secret=%s\\n" "$HOST_KEY" "$HOST_SECRET"; cat'],
    taskArgs: [],
    passEnv: ["HOST_KEY"],
    requiredEnv: ["HOST_KEY"],
  },
  broken: { command: "sh", args: ["-c", "echo no licence; exit 3"] },
  missing: { command: "/no/such/program" },
  resuming: {
    command: "sh",
    args: ["-c", 'echo "args: $*"; cat', "resuming"],
    resumeArgs: ["--continue"],
    resumable: true,
  },
  crashing: { command: "sh", args: ["-c", "read -r line; exit 7", "crashing"] },
};

const scene = new OperationsScene(
  { harnesses: JSON.stringify(HARNESSES) },
  { env: { HOST_KEY: "from-host", HOST_SECRET: "never-seen" } },
);
const { name, call, create, say } = scene;

test("create starts an agent, reports it and lists it", async () => {
  const slug = name();
  const body = createBody(slug, { config: { task: "say hello" } });
  const heartbeat = scene.joined.hub.heartbeat.next((beat) => JSON.stringify(beat).includes(`"${slug}"`));
  const answer = await scene.joined.session.request("POST", "/api/v1/agents", { body });
  expect(answer.status).toBe(201);
  expect(answer.json).toMatchObject({
    created: true,
    agent: {
      name: slug,
      phase: "running",
      status: "running",
      ready: true,
      runtime: "process",
      harnessConfig: "shell",
      projectId: PROJECT,
      groveId: PROJECT,
    },
  });
  expect(answer.get("agent.id")).toBeUndefined();
  expect(answer.get("agent.containerStatus")).toMatch(/^Up /);
  const report = await scene.joined.hub.report((r) => r.agentId === body.id && r.get("phase") === "running");
  expect(report).toMatchObject({
    token: "agent-token-1-7f3c",
    body: { phase: "running", activity: "working", status: "working", currentTurns: 0, currentModelCalls: 0 },
  });
  expect(Date.parse(report.textAt("startedAt"))).not.toBeNaN();
  expect(await heartbeat).toMatchObject({
    status: "online",
    projects: [{ projectId: PROJECT, groveId: PROJECT }],
    groves: [{ projectId: PROJECT }],
  });
  const list = await call("GET", "/api/v1/agents");
  expect(list.listAt("agents").find((a) => new Found(a).get("slug") === slug)).toMatchObject({
    id: body.id,
    phase: "running",
  });
  expect((await call("GET", `/api/v1/agents/${slug.toUpperCase()}`)).get("slug")).toBe(slug);
  expect((await call("GET", `/api/v1/agents/${answer.get("agent.containerId")}`)).get("slug")).toBe(slug);
  expect((await call("GET", `/api/v1/agents/${slug}/logs`)).text).toContain("shell> received: say hello");
});

test("stop, suspend, start, restart and delete", async () => {
  const slug = name();
  const body = createBody(slug, { config: { harnessConfig: "resuming" } });
  await scene.joined.session.request("POST", "/api/v1/agents", { body });
  const stop = await call("POST", `/api/v1/agents/${slug}/stop`);
  expect([stop.status, stop.get("status")]).toEqual([202, "accepted"]);
  await scene.joined.hub.report((r) => r.agentId === body.id && r.get("phase") === "stopping");
  expect(
    (await scene.joined.hub.report((r) => r.agentId === body.id && r.get("phase") === "stopped")).get("exitCode"),
  ).toBeUndefined();
  const stopped = await call("GET", `/api/v1/agents/${slug}`);
  expect(stopped.json).toMatchObject({ phase: "stopped", ready: false });
  expect(stopped.get("containerStatus")).toMatch(/^Exited \(0\)/);
  expect((await call("POST", `/api/v1/agents/${slug}/stop`)).status).toBe(202);
  expect((await call("POST", "/api/v1/agents/nobody/stop")).status).toBe(202);
  const start = await call("POST", `/api/v1/agents/${slug}/start`, {
    resolvedEnv: { SCION_AUTH_TOKEN: "agent-token-2-7f3c", SCION_AGENT_ID: body.id },
  });
  expect([start.status, start.get("created"), start.get("agent.phase")]).toEqual([202, false, "running"]);
  expect(
    (await scene.joined.hub.report((r) => r.agentId === body.id && r.token === "agent-token-2-7f3c")).get("phase"),
  ).toBe("running");
  const again = await call("POST", `/api/v1/agents/${slug}/start`, {});
  expect(again.get("agent.containerId")).toBe(start.get("agent.containerId"));
  const replaced = await call("POST", `/api/v1/agents/${slug}/start`, { task: "new work" });
  expect(replaced.get("agent.containerId")).not.toBe(start.get("agent.containerId"));
  await call("POST", `/api/v1/agents/${slug}/suspend`);
  expect((await call("GET", `/api/v1/agents/${slug}`)).get("phase")).toBe("suspended");
  await call("POST", `/api/v1/agents/${slug}/start`);
  expect((await call("GET", `/api/v1/agents/${slug}/logs`)).text).toContain("args: --continue");
  const restarted = await call("POST", `/api/v1/agents/${slug}/restart`, {});
  expect([restarted.status, restarted.get("agent.phase")]).toEqual([202, "running"]);
  expect((await call("DELETE", `/api/v1/agents/${slug}`, undefined, `deleteFiles=true&${query}`)).status).toBe(204);
  expect((await call("DELETE", `/api/v1/agents/${slug}`)).status).toBe(404);
  expect((await call("GET", `/api/v1/agents/${slug}`)).get("error.code")).toBe("agent_not_found");
  expect((await call("POST", `/api/v1/agents/${slug}/restart`)).status).toBe(404);
});

test("whoever asks for an agent in the middle of a start hears how it ended", async () => {
  const slug = scene.name();
  const { session } = scene.joined;
  for (const begin of [
    () => session.sendRequest("POST", "/api/v1/agents", { body: createBody(slug) }),
    () => session.sendRequest("POST", `/api/v1/agents/${slug}/start`, { query, body: { task: "go on" } }),
  ]) {
    begin();
    expect((await scene.call("GET", `/api/v1/agents/${slug}`)).get("phase")).toBe("running");
    expect((await scene.call("POST", `/api/v1/agents/${slug}/stop`)).status).toBe(202);
  }
});

test("an agent that is unknown here is provisioned anew from its start", async () => {
  const slug = name();
  expect((await call("POST", `/api/v1/agents/${slug}/start`, {})).status).toBe(404);
  const started = await call("POST", `/api/v1/agents/${slug}/start`, {
    projectSlug: "demo",
    task: "again",
    resolvedEnv: {
      SCION_AGENT_ID: systemRandom.uuid(),
      SCION_AGENT_SLUG: slug,
      SCION_AUTH_TOKEN: "agent-token-0-7f3c",
    },
  });
  expect([started.status, started.get("created"), started.get("agent.phase")]).toEqual([202, false, "running"]);
  expect((await call("GET", `/api/v1/agents/${slug}/logs`)).text).toContain("received: again");
});

test("an agent that crashes is reported with its exit code", async () => {
  const slug = name();
  const body = createBody(slug, { config: { harnessConfig: "crashing" } });
  await scene.joined.session.request("POST", "/api/v1/agents", { body });
  const heartbeat = scene.joined.hub.heartbeat.next((beat) => JSON.stringify(beat).includes("Exited (7)"));
  await say(slug, "go", undefined, { plain: true });
  const report = await scene.joined.hub.report((r) => r.agentId === body.id && r.get("phase") === "error");
  expect(report.body).toMatchObject({ phase: "error", exitCode: 7, message: "Agent crashed with exit code 7" });
  await heartbeat;
  expect((await call("GET", `/api/v1/agents/${slug}`)).json).toMatchObject({ phase: "error" });
});

test.each(["broken", "missing"])("an agent whose harness is %s fails its create with the reason", async (harness) => {
  const slug = name();
  const answer = await create(slug, { config: { harnessConfig: harness } });
  expect([answer.status, answer.get("error.code")]).toEqual([500, "runtime_error"]);
  expect((await call("GET", `/api/v1/agents/${slug}`)).get("phase")).toBe("error");
});

test("a create that comes again is answered as before, and a failed one runs again", async () => {
  const slug = name();
  const body = createBody(slug, { config: { task: "t" } });
  const first = await scene.joined.session.request("POST", "/api/v1/agents", { body });
  const second = await scene.joined.session.request("POST", "/api/v1/agents", { body });
  expect(second.json).toEqual(first.json);
  const { broker } = scene.joined;
  expect(broker.agents.store.find(slug, PROJECT)?.createRequestId).toBe(body.requestId);
  const unknown = createBody(name(), { config: { harnessConfig: "nothing" } });
  expect(
    (await scene.joined.session.request("POST", "/api/v1/agents", { body: unknown })).get("error.details.field"),
  ).toBe("harnessConfig");
  unknown.config = {};
  expect((await scene.joined.session.request("POST", "/api/v1/agents", { body: unknown })).status).toBe(201);
});

test.each([
  [{}, "name"],
  [{ name: "../../etc", projectId: PROJECT }, "name"],
  [{ name: "ok", projectId: "" }, "projectId"],
  [{ name: "ok", projectId: PROJECT, resolvedEnv: { A: 1 } }, "resolvedEnv.A"],
  [{ name: "ok", projectId: PROJECT, projectSlug: "../up" }, "projectSlug"],
])("a create with bad input %# names the field", async (body, field) => {
  const answer = await scene.joined.session.request("POST", "/api/v1/agents", {
    body: field === "projectSlug" ? { ...body, config: { sharedWorkspace: true } } : body,
  });
  expect([answer.status, answer.get("error.details.field")]).toEqual([400, field]);
});

test("missing values are asked for, and finalize-env starts the agent with them", async () => {
  const slug = name();
  const body = createBody(slug, { gatherEnv: true, config: { harnessConfig: "needy" } });
  const asked = await scene.joined.session.request("POST", "/api/v1/agents", { body });
  expect(asked.status).toBe(202);
  expect(asked.json).toEqual({
    agentId: body.id,
    required: ["NEEDED_KEY"],
    hubHas: null,
    brokerHas: null,
    needs: ["NEEDED_KEY"],
    secretInfo: { NEEDED_KEY: { source: "auth" } },
  });
  const path = `/api/v1/agents/${body.id}/finalize-env`;
  const finalized = await call("POST", path, { env: { NEEDED_KEY: "gathered-4e77c1" } });
  expect([finalized.status, finalized.get("agent.phase")]).toEqual([201, "running"]);
  expect((await call("GET", `/api/v1/agents/${slug}/logs`)).text).toContain("key=gathered");
  expect((await call("POST", path, { env: {} })).get("error.code")).toBe("not_found");
  // The value is kept: a later start does not have to bring it again.
  await call("POST", `/api/v1/agents/${slug}/stop`);
  await call("POST", `/api/v1/agents/${slug}/start`, { resolvedEnv: {} });
  expect((await call("GET", `/api/v1/agents/${slug}/logs`)).text.match(/key=gathered/g)).toHaveLength(2);
});

test("a missing value without gathering is an error; a given one and one of this machine are none", async () => {
  expect((await create(name(), { config: { harnessConfig: "needy" } })).get("error.details.missingKeys")).toEqual([
    "NEEDED_KEY",
  ]);
  const given = await create(name(), {
    gatherEnv: true,
    config: { harnessConfig: "needy" },
    resolvedEnv: { NEEDED_KEY: "needed-4e77c1" },
  });
  expect(given.status).toBe(201);
  const slug = name();
  expect((await create(slug, { gatherEnv: true, config: { harnessConfig: "passing" } })).status).toBe(201);
  expect((await call("GET", `/api/v1/agents/${slug}/logs`)).text).toContain("passed=from-host secret=\n");
});

test("a start without a required value says which one is missing", async () => {
  const answer = await call("POST", `/api/v1/agents/${name()}/start`, {
    harnessConfig: "needy",
    resolvedEnv: { SCION_AGENT_ID: systemRandom.uuid() },
  });
  expect([answer.status, answer.get("error.code")]).toEqual([500, "runtime_error"]);
  expect(answer.get("error.message")).toContain("NEEDED_KEY");
  expect((await create(name(), { noAuth: true, config: { harnessConfig: "needy" } })).status).toBe(201);
});

test.each(["create", "start"])(
  "what an agent leaves that the hub has forgotten is not for the next one of its name: %s",
  async (verb) => {
    const slug = name();
    const needy = { gatherEnv: true, config: { harnessConfig: "needy" } };
    const former = await create(slug, { ...needy, resolvedEnv: { NEEDED_KEY: "somebody's own" } });
    expect(former.status).toBe(201);
    const session = former.get("agent.containerId");
    const { broker } = scene.joined;
    const left = broker.agents.store.find(slug, PROJECT);
    await writeFile(join(left?.workspace ?? "", "notes"), "left behind");
    const body = createBody(slug, needy);
    const answer =
      verb === "create"
        ? await scene.joined.session.request("POST", "/api/v1/agents", { body })
        : await call("POST", `/api/v1/agents/${slug}/start`, {
            harnessConfig: "needy",
            resolvedEnv: { SCION_AGENT_ID: body.id, SCION_AGENT_SLUG: slug, SCION_PROJECT_ID: PROJECT },
          });
    // Neither its value nor its session: the new one is asked for its own.
    if (verb === "create") expect([answer.status, answer.get("needs")]).toEqual([202, ["NEEDED_KEY"]]);
    else expect([answer.status, answer.get("error.message")]).toEqual([500, expect.stringContaining("NEEDED_KEY")]);
    const finalized = await create(slug, { ...needy, id: body.id, resolvedEnv: { NEEDED_KEY: "mine-4e77c1" } });
    expect([finalized.status, finalized.get("agent.id") ?? body.id]).toEqual([201, body.id]);
    expect(finalized.get("agent.containerId")).not.toBe(session);
    const now = broker.agents.store.find(slug, PROJECT);
    expect(now?.id).toBe(body.id);
    expect(await readdir(now?.workspace ?? "")).not.toContain("notes");
    const log = (await call("GET", `/api/v1/agents/${slug}/logs`)).text;
    expect([log.includes("key=mine"), log.includes("somebody's own")]).toEqual([true, false]);
  },
);

test("an agent can be provisioned first and started later with its task", async () => {
  const slug = name();
  const body = createBody(slug, { provisionOnly: true, config: { task: "later" } });
  const answer = await scene.joined.session.request("POST", "/api/v1/agents", { body });
  expect(answer.json).toMatchObject({
    created: true,
    agent: { id: body.id, slug, phase: "created", status: "created" },
  });
  expect((await call("GET", `/api/v1/agents/${slug}/has-prompt`)).json).toEqual({ hasPrompt: true });
  await call("POST", `/api/v1/agents/${slug}/start`, {});
  expect((await call("GET", `/api/v1/agents/${slug}/logs`)).text).toContain("received: later");
});

test("project files go with the project, and no name leads out of it", async () => {
  const directory = join(scene.joined.stateDirectory, "projects", "old");
  await mkdir(directory, { recursive: true });
  expect((await call("DELETE", "/api/v1/projects/old", undefined, "project_id=x")).status).toBe(204);
  expect((await call("DELETE", "/api/v1/projects/old")).status).toBe(204);
  expect((await call("DELETE", "/api/v1/projects/..%2f..")).status).toBe(400);
});

test("what this runtime broker cannot do is said clearly", async () => {
  expect((await call("POST", "/api/v1/workspace/upload", {})).status).toBe(501);
  expect((await create(name(), { workspaceStoragePath: "x" })).status).toBe(501);
  expect((await call("PUT", "/api/v1/agents")).status).toBe(405);
  expect((await call("GET", "/api/v1/info")).json).toMatchObject({
    capabilities: { attach: true, exec: true },
    profiles: [{ name: "local", type: "process", available: true }],
  });
});

test("agents of one name in two projects are told apart", async () => {
  const slug = name();
  const other = systemRandom.uuid();
  await create(slug);
  await create(slug, { projectId: other });
  expect((await call("GET", `/api/v1/agents/${slug}`, undefined, "")).get("error.details.field")).toBe("projectId");
  await call("POST", `/api/v1/agents/${slug}/stop`, undefined, `projectId=${other}`);
  expect((await call("GET", `/api/v1/agents/${slug}`)).get("phase")).toBe("running");
});
