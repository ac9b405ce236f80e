import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import { agentDirectory, agentKey } from "../agents/agentRecord.ts";
import { Found } from "../testing/found.ts";
import { createBody, type Joined, joinedBroker, messageBody, PROJECT, query } from "../testing/setup.ts";

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

let joined: Joined;
let names = 0;
const name = () => `a${++names}`;
const call = (method: string, path: string, body?: unknown, q = query) =>
  joined.session.request(method, path, { query: q, ...(body !== undefined && { body }) });
const create = async (slug: string, more: Record<string, unknown> = {}) =>
  joined.session.request("POST", "/api/v1/agents", { body: createBody(slug, more) });
const say = (slug: string, text: string, id?: string, more = {}) =>
  call("POST", `/api/v1/agents/${slug}/message`, messageBody(text, id, more));

beforeAll(async () => {
  joined = await joinedBroker(
    { harnesses: JSON.stringify(HARNESSES) },
    { env: { HOST_KEY: "from-host", HOST_SECRET: "never-seen" } },
  );
});
afterAll(() => joined.stop());

test("create starts an agent, reports it and lists it", async () => {
  const slug = name();
  const body = createBody(slug, { config: { task: "say hello" } });
  const heartbeat = joined.hub.heartbeat.next((beat) => JSON.stringify(beat).includes(`"${slug}"`));
  const answer = await joined.session.request("POST", "/api/v1/agents", { body });
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
  const report = await joined.hub.report((r) => r.agentId === body.id && r.get("phase") === "running");
  expect(report).toMatchObject({
    token: "token-1",
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

test("a message is typed in and its reply is in the log", async () => {
  const slug = name();
  await create(slug);
  const terminal = joined.session.terminal(slug, PROJECT);
  expect((await say(slug, "hi there $(exit)")).status).toBe(200);
  await terminal.shows("shell> received: hi there $(exit)");
  expect((await say(slug, "two\nlines", undefined, { plain: true })).status).toBe(200);
  await terminal.shows("shell> received: two lines");
  const logs = await call("GET", `/api/v1/agents/${slug}/logs`);
  expect(logs.text).toContain("shell> received: hi there $(exit)\n");
  expect(logs.text).not.toContain("\u001b");
  const tail = await call("GET", `/api/v1/agents/${slug}/logs`, undefined, `tail=1&${query}`);
  expect(tail.text).toBe("shell> received: two lines\n");
});

test("a message of 64 KB arrives whole", async () => {
  const slug = name();
  await create(slug);
  const terminal = joined.session.terminal(slug, PROJECT);
  expect((await say(slug, `${"x".repeat(65_000)}-the-end`)).status).toBe(200);
  await terminal.shows("the-end\r\nshell> received: ".slice(0, 7));
  expect((await say(slug, "after")).status).toBe(200);
  await terminal.shows("received: after");
  const logs = await call("GET", `/api/v1/agents/${slug}/logs`);
  expect(logs.text).toContain(`shell> received: ${"x".repeat(65_000)}-the-end\n`);
});

test("messages sent at once arrive in the order of their frames, each once", async () => {
  const slug = name();
  await create(slug);
  const terminal = joined.session.terminal(slug, PROJECT);
  const sent = Array.from({ length: 40 }, (_, i) =>
    joined.session.sendRequest("POST", `/api/v1/agents/${slug}/message`, {
      query,
      body: messageBody(`number ${i}`, systemRandom.uuid(), { plain: true }),
    }),
  );
  for (const { requestId } of sent) expect((await joined.session.answer(requestId)).status).toBe(200);
  await terminal.shows("received: number 39");
  const { text } = await call("GET", `/api/v1/agents/${slug}/logs`);
  expect([...text.matchAll(/received: number (\d+)/g)].map((m) => Number(m[1]))).toEqual(sent.map((_, i) => i));
});

test("a message id that was delivered before is not typed again", async () => {
  const slug = name();
  await create(slug);
  const terminal = joined.session.terminal(slug, PROJECT);
  const id = systemRandom.uuid();
  expect((await say(slug, "only once", id)).status).toBe(200);
  expect((await say(slug, "only once", id)).status).toBe(200);
  expect((await say(slug, "marker", systemRandom.uuid())).status).toBe(200);
  await terminal.shows("received: marker");
  const { text } = await call("GET", `/api/v1/agents/${slug}/logs`);
  expect(text.match(/received: only once/g)).toHaveLength(1);
});

test("raw messages are keystrokes, interrupts come first, an empty one is Enter, plain ones carry no keystrokes", async () => {
  const slug = name();
  await create(slug);
  const terminal = joined.session.terminal(slug, PROJECT);
  await say(slug, "ab", undefined, { raw: true });
  await say(slug, "cd", undefined, { raw: true });
  await say(slug, "");
  await terminal.shows("received: abcd");
  await call("POST", `/api/v1/agents/${slug}/message`, { ...messageBody("stop that"), interrupt: true });
  await terminal.shows("shell> interrupted");
  await terminal.shows("received: stop that");
  await say(slug, "tricky\u001b[201~\u0003end", undefined, { plain: true });
  await terminal.shows("received: tricky[201~end");
});

test("a hub that renders the text itself is obeyed", async () => {
  const slug = name();
  await create(slug);
  const terminal = joined.session.terminal(slug, PROJECT);
  await call("POST", `/api/v1/agents/${slug}/message`, { ...messageBody("ignored"), delivery_text: "rendered" });
  await terminal.shows("received: rendered");
});

test("a message for an agent that does not run is refused, for an unknown one too, and bad ones name the field", async () => {
  const slug = name();
  expect((await say(slug, "hello")).get("error.code")).toBe("agent_not_found");
  await create(slug);
  await call("POST", `/api/v1/agents/${slug}/stop`);
  const stopped = await say(slug, "hello", "m-1");
  expect([stopped.status, stopped.get("error.code")]).toEqual([409, "agent_not_running"]);
  const invalid = await say(slug, "hello", "white space");
  expect([invalid.status, invalid.get("error.details.field")]).toEqual([400, "message_id"]);
  const broken = joined.session.sendRequest("POST", `/api/v1/agents/${slug}/message`, { query, body: 7 });
  expect((await joined.session.answer(broken.requestId)).status).toBe(400);
});

test("a message refused while the agent was down is typed when it comes again", async () => {
  const slug = name();
  await create(slug);
  await call("POST", `/api/v1/agents/${slug}/stop`);
  expect((await say(slug, "later", "m-2")).status).toBe(409);
  await call("POST", `/api/v1/agents/${slug}/start`, {});
  const terminal = joined.session.terminal(slug, PROJECT);
  expect((await say(slug, "later", "m-2")).status).toBe(200);
  await terminal.shows("received: later");
});

test("stop, suspend, start, restart and delete", async () => {
  const slug = name();
  const body = createBody(slug, { config: { harnessConfig: "resuming" } });
  await joined.session.request("POST", "/api/v1/agents", { body });
  const stop = await call("POST", `/api/v1/agents/${slug}/stop`);
  expect([stop.status, stop.get("status")]).toEqual([202, "accepted"]);
  await joined.hub.report((r) => r.agentId === body.id && r.get("phase") === "stopping");
  expect(
    (await joined.hub.report((r) => r.agentId === body.id && r.get("phase") === "stopped")).get("exitCode"),
  ).toBeUndefined();
  const stopped = await call("GET", `/api/v1/agents/${slug}`);
  expect(stopped.json).toMatchObject({ phase: "stopped", ready: false });
  expect(stopped.get("containerStatus")).toMatch(/^Exited \(0\)/);
  expect((await call("POST", `/api/v1/agents/${slug}/stop`)).status).toBe(202);
  expect((await call("POST", "/api/v1/agents/nobody/stop")).status).toBe(202);
  const start = await call("POST", `/api/v1/agents/${slug}/start`, {
    resolvedEnv: { SCION_AUTH_TOKEN: "token-2", SCION_AGENT_ID: body.id },
  });
  expect([start.status, start.get("created"), start.get("agent.phase")]).toEqual([202, false, "running"]);
  expect((await joined.hub.report((r) => r.agentId === body.id && r.token === "token-2")).get("phase")).toBe("running");
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

test("an agent that is unknown here is provisioned anew from its start", async () => {
  const slug = name();
  expect((await call("POST", `/api/v1/agents/${slug}/start`, {})).status).toBe(404);
  const started = await call("POST", `/api/v1/agents/${slug}/start`, {
    projectSlug: "demo",
    task: "again",
    resolvedEnv: { SCION_AGENT_ID: systemRandom.uuid(), SCION_AGENT_SLUG: slug, SCION_AUTH_TOKEN: "t" },
  });
  expect([started.status, started.get("created"), started.get("agent.phase")]).toEqual([202, false, "running"]);
  expect((await call("GET", `/api/v1/agents/${slug}/logs`)).text).toContain("received: again");
});

test("an agent that crashes is reported with its exit code", async () => {
  const slug = name();
  const body = createBody(slug, { config: { harnessConfig: "crashing" } });
  await joined.session.request("POST", "/api/v1/agents", { body });
  const heartbeat = joined.hub.heartbeat.next((beat) => JSON.stringify(beat).includes("Exited (7)"));
  await say(slug, "go", undefined, { plain: true });
  const report = await joined.hub.report((r) => r.agentId === body.id && r.get("phase") === "error");
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
  const first = await joined.session.request("POST", "/api/v1/agents", { body });
  const second = await joined.session.request("POST", "/api/v1/agents", { body });
  expect(second.json).toEqual(first.json);
  const { broker } = joined;
  expect(broker.agents.store.find(slug, PROJECT)?.createRequestId).toBe(body.requestId);
  const unknown = createBody(name(), { config: { harnessConfig: "nothing" } });
  expect((await joined.session.request("POST", "/api/v1/agents", { body: unknown })).get("error.details.field")).toBe(
    "harnessConfig",
  );
  unknown.config = {};
  expect((await joined.session.request("POST", "/api/v1/agents", { body: unknown })).status).toBe(201);
});

test.each([
  [{}, "name"],
  [{ name: "../../etc", projectId: PROJECT }, "name"],
  [{ name: "ok", projectId: "" }, "projectId"],
  [{ name: "ok", projectId: PROJECT, resolvedEnv: { A: 1 } }, "resolvedEnv.A"],
  [{ name: "ok", projectId: PROJECT, projectSlug: "../up" }, "projectSlug"],
])("a create with bad input %# names the field", async (body, field) => {
  const answer = await joined.session.request("POST", "/api/v1/agents", {
    body: field === "projectSlug" ? { ...body, config: { sharedWorkspace: true } } : body,
  });
  expect([answer.status, answer.get("error.details.field")]).toEqual([400, field]);
});

test("missing values are asked for, and finalize-env starts the agent with them", async () => {
  const slug = name();
  const body = createBody(slug, { gatherEnv: true, config: { harnessConfig: "needy" } });
  const asked = await joined.session.request("POST", "/api/v1/agents", { body });
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
  const finalized = await call("POST", path, { env: { NEEDED_KEY: "gathered" } });
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
    resolvedEnv: { NEEDED_KEY: "x" },
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

test("an agent can be provisioned first and started later with its task", async () => {
  const slug = name();
  const body = createBody(slug, { provisionOnly: true, config: { task: "later" } });
  const answer = await joined.session.request("POST", "/api/v1/agents", { body });
  expect(answer.json).toMatchObject({
    created: true,
    agent: { id: body.id, slug, phase: "created", status: "created" },
  });
  expect((await call("GET", `/api/v1/agents/${slug}/has-prompt`)).json).toEqual({ hasPrompt: true });
  await call("POST", `/api/v1/agents/${slug}/start`, {});
  expect((await call("GET", `/api/v1/agents/${slug}/logs`)).text).toContain("received: later");
});

test("exec gives output and exit code, the agent's environment, and a screen to who looks", async () => {
  const slug = name();
  await create(slug, { resolvedEnv: { MINE: "yes" } });
  const exec = (command: string[], timeout = 10) => call("POST", `/api/v1/agents/${slug}/exec`, { command, timeout });
  expect((await exec(["sh", "-c", "echo out; echo err >&2; exit 3"])).json).toMatchObject({ exitCode: 3 });
  expect((await exec(["sh", "-c", "echo $MINE $SCION_AGENT_SLUG $SCION_AUTH_TOKEN"])).json).toEqual({
    output: `yes ${slug}\n`,
    exitCode: 0,
  });
  expect((await exec(["tmux", "capture-pane", "-p", "-t", "scion"])).get("output")).toContain("shell> ready");
  expect((await exec(["/no/such/program"])).get("error.code")).toBe("runtime_error");
  expect((await exec(["sleep", "30"], 0.2)).get("error.message")).toContain("took longer");
  expect((await exec([])).get("error.details.field")).toBe("command");
  // As long as the hub lets through, and no longer.
  expect((await exec(["true"], 3_600)).get("exitCode")).toBe(0);
  expect((await exec(["true"], 3_601)).get("error.details.field")).toBe("timeout");
  expect((await call("POST", `/api/v1/agents/${slug}/exec`, { command: "ls" })).status).toBe(400);
});

test("a slow exec holds up neither messages nor other agents", async () => {
  const slug = name();
  await create(slug);
  const slow = joined.session.sendRequest("POST", `/api/v1/agents/${slug}/exec`, {
    query,
    body: { command: ["sh", "-c", "while [ ! -e go ]; do sleep 0.05; done; echo went"], timeout: 20 },
  });
  expect((await say(slug, "meanwhile")).status).toBe(200);
  expect((await call("POST", `/api/v1/agents/${slug}/exec`, { command: ["touch", "go"] })).get("exitCode")).toBe(0);
  expect((await joined.session.answer(slow.requestId)).get("output")).toBe("went\n");
});

test("an answer that the hub could not read becomes an error, a log its end", async () => {
  joined.hub.maxFrameBytes = undefined;
  const { session } = await joined.restart();
  const slug = name();
  await session.request("POST", "/api/v1/agents", { body: createBody(slug) });
  const exec = await session.request("POST", `/api/v1/agents/${slug}/exec`, {
    query,
    body: { command: ["sh", "-c", "head -c 60000 /dev/zero | tr '\\0' x"] },
  });
  expect([exec.status, exec.get("error.code")]).toEqual([413, "payload_too_large"]);
  const directory = agentDirectory(joined.stateDirectory, agentKey(PROJECT, slug));
  await writeFile(join(directory, "agent.log"), `${"line\n".repeat(50_000)}last\n`, { flag: "a" });
  const logs = await session.request("GET", `/api/v1/agents/${slug}/logs`, { query });
  expect(logs.status).toBe(200);
  expect(logs.text.length).toBeGreaterThan(40_000);
  expect(logs.text.endsWith("line\nlast\n")).toBe(true);
  joined.hub.maxFrameBytes = 1_048_576;
  Object.assign(joined, await joined.restart());
});

test("reset-auth replaces the token", async () => {
  const slug = name();
  await create(slug);
  const reset = (token: string) => call("POST", `/api/v1/agents/${slug}/reset-auth`, { token });
  expect((await reset("token-9")).status).toBe(200);
  const home = join(agentDirectory(joined.stateDirectory, agentKey(PROJECT, slug)), "home");
  expect(await readFile(join(home, ".scion", "scion-token"), "utf8")).toBe("token-9");
  expect((await reset("two\nlines")).get("error.details.field")).toBe("token");
  await call("POST", `/api/v1/agents/${slug}/stop`);
  expect((await reset("token-9")).get("error.code")).toBe("agent_not_running");
});

test("project files go with the project, and no name leads out of it", async () => {
  const directory = join(joined.stateDirectory, "projects", "old");
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
