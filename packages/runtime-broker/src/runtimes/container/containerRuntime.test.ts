import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import { eventually } from "@rootstock/testkit";
import { agentDirectory, agentKey } from "../../agents/agentRecord.ts";
import { type FakeDocker, makeFakeDocker } from "../../testing/fakeDocker.ts";
import { createBody, type Joined, joinedBroker, messageBody, PROJECT, query } from "../../testing/setup.ts";
import { parseContainers } from "./containerCli.ts";

let docker: FakeDocker;
let joined: Joined;
let directory: string;
let names = 0;
let slug = "";

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "rb-docker-"));
  docker = await makeFakeDocker(join(directory, "bin"));
  joined = await joinedBroker(
    {
      runtime: "container",
      containerImage: "registry.example.org/agent:1",
      harnesses: JSON.stringify({
        gemini: { command: "gemini", args: ["--yolo"], taskArgs: ["-i", "{task}"], passEnv: ["HOST_KEY"] },
      }),
    },
    {
      env: {
        PATH: `${docker.directory}:${process.env.PATH}`,
        HOST_KEY: "host value",
        HOST_SECRET: "never-seen-inside-42",
      },
    },
  );
});
afterAll(async () => {
  await joined.stop();
  await rm(directory, { recursive: true });
});
beforeEach(() => {
  slug = `c${++names}`;
});

const call = (method: string, path: string, body?: unknown) =>
  joined.session.request(method, `/api/v1/agents/${slug}${path}`, { query, ...(body !== undefined && { body }) });
const create = (more: Record<string, unknown> = {}) =>
  joined.session.request("POST", "/api/v1/agents", { body: createBody(slug, more) });
const home = () => join(agentDirectory(joined.stateDirectory, agentKey(PROJECT, slug)), "home");

test("an agent is a container with the labels, mounts, variables and tmux session that the tools inside expect", async () => {
  const answer = await create({
    config: {
      harnessConfig: "gemini",
      task: "it's `a` $(test)",
      template: "default",
      gitClone: { url: "https://git.example.org/o/r.git", branch: "main", depth: 1 },
    },
    resolvedEnv: {
      GEMINI_API_KEY: "s3cret-8d0a-of-gemini",
      PATH: "/custom",
      SCION_HUB_ENDPOINT: "http://hub.example.org:8080",
    },
    hubEndpoint: "http://hub.example.org:8080",
    creatorName: "dev@localhost",
    resolvedSecrets: [
      {
        name: "CERT",
        type: "file",
        target: "~/.config/cert.pem",
        value: Buffer.from("certificate").toString("base64"),
      },
      { name: "VAR", type: "variable", target: "VAR", value: "v4riable-of-it-77" },
      { name: "ENVKEY", type: "environment", target: "ENVKEY", value: "s3cret-of-envkey-91" },
    ],
  });
  expect(answer.json).toMatchObject({
    created: true,
    agent: { runtime: "docker", phase: "running", containerStatus: "Up Less than a second" },
  });
  const { args, env } = await docker.lastRun();
  expect(args.slice(0, 4)).toEqual(["run", "-t", "-d", "-i"]);
  const values = (name: string) => args.flatMap((arg, i) => (args[i - 1] === name ? [arg] : []));
  expect(values("--name")).toEqual([`demo--${slug}`]);
  expect(values("--workdir")).toEqual(["/workspace"]);
  expect(values("--network")).toEqual([]);
  expect(values("--cap-add")).toEqual(["NET_ADMIN"]);
  expect(values("--label")).toEqual(
    expect.arrayContaining([
      "scion.agent=true",
      `scion.name=${slug}`,
      "scion.template=default",
      "scion.harness_config=gemini",
      "scion.project=demo",
      "scion.grove=demo",
      `scion.project_id=${PROJECT}`,
      `scion.grove_id=${PROJECT}`,
    ]),
  );
  expect(values("-v")[0]).toBe(`${home()}:/home/scion`);
  expect(values("-v")[1]).toMatch(/workspace:\/workspace$/);
  expect(values("-v")[2]).toMatch(/:\/home\/scion\/\.config\/cert\.pem:ro$/);
  expect(args.join(" ")).not.toContain("s3cret-8d0a-of-gemini");
  expect(values("-e")).toEqual(
    expect.arrayContaining(["GEMINI_API_KEY", "ENVKEY", "HOST_KEY", "PATH=/custom", "SCION_AGENT_ID"]),
  );
  expect(env).toMatchObject({
    GEMINI_API_KEY: "s3cret-8d0a-of-gemini",
    ENVKEY: "s3cret-of-envkey-91",
    HOST_KEY: "host value",
    SCION_AGENT_SLUG: slug,
    SCION_AGENT_MODE: "hosted",
    SCION_PROJECT_ID: PROJECT,
    SCION_GROVE_ID: PROJECT,
    SCION_HUB_ENDPOINT: "http://hub.example.org:8080",
    SCION_GIT_CLONE_URL: "https://git.example.org/o/r.git",
    SCION_GIT_BRANCH: "main",
    SCION_METADATA_MODE: "block",
    SCION_CREATOR: "dev@localhost",
  });
  expect(values("-e")).not.toContain("HOST_SECRET");
  expect(values("-e")).not.toContain("SCION_AUTH_TOKEN");
  expect(await readFile(join(home(), ".scion", "scion-token"), "utf8")).toBe("agent-token-1-7f3c");
  expect((await stat(join(home(), ".scion", "scion-token"))).mode & 0o777).toBe(0o600);
  expect(JSON.parse(await readFile(join(home(), ".scion", "secrets.json"), "utf8"))).toEqual({
    VAR: "v4riable-of-it-77",
  });
  const [image, shell, option, command = ""] = args.slice(-4);
  expect([image, shell, option]).toEqual(["registry.example.org/agent:1", "sh", "-c"]);
  expect(command).toMatch(/^tmux new-session -d -s scion -n agent /);
  expect(command).toContain(
    "\\; new-window -t scion -n shell \\; select-window -t scion:agent \\; attach-session -t scion",
  );
  expect(command).toContain("/tmp/scion-harness-exit-code");
});

test("the task reaches the harness as one word, whatever it contains", async () => {
  const task = 'it\'s "quoted" `a` $(b) \\ ; & |';
  await create({ config: { harnessConfig: "gemini", task } });
  const { args } = await docker.lastRun();
  // The shell takes the command apart; in place of tmux a function prints the words of the window's command.
  const answer = await call("POST", "/exec", {
    command: [
      "sh",
      "-c",
      `tmux() { shift 6; eval "set -- $1"; eval "set -- \${3%%; echo*}"; printf '%s\\n' "$@"; }; ${String(args.at(-1)).replace(/ \\;.*$/s, "")}`,
    ],
  });
  expect(answer.textAt("output").split("\n").slice(0, 4)).toEqual(["gemini", "--yolo", "-i", task]);
});

test("a hub on this machine's own address is reached over the host's network", async () => {
  await create({ hubEndpoint: "http://127.0.0.1:8080" });
  const { args, env } = await docker.lastRun();
  expect(args[args.indexOf("--network") + 1]).toBe("host");
  expect(args).not.toContain("NET_ADMIN");
  expect(env.SCION_NETWORK_MODE).toBe("host");
});

test("messages are pasted and entered, raw ones are keys, interrupts come first", async () => {
  await create();
  const before = (await docker.typed()).length;
  const typed = async () => (await docker.typed()).slice(before);
  expect((await call("POST", "/message", messageBody("hi", "m1", { plain: true }))).status).toBe(200);
  expect(await typed()).toEqual(["paste:hi", "key:Enter", "key:Enter", "key:Enter"]);
  await call("POST", "/message", messageBody("\u001b[A", undefined, { raw: true }));
  expect((await typed()).slice(4)).toEqual(["raw:\u001b[A"]);
  await call("POST", "/message", messageBody("", undefined));
  expect((await typed()).slice(5)).toEqual(["key:Enter"]);
  await call("POST", "/message", { ...messageBody("stop", undefined, { plain: true }), interrupt: true });
  expect((await typed()).slice(6, 9)).toEqual(["key:C-c", "paste:stop", "key:Enter"]);
});

test("a message that comes again is not typed again, also when the runtime broker forgot it", async () => {
  await create();
  const before = (await docker.typed()).length;
  const say = (id: string) => call("POST", "/message", messageBody(`text ${id}`, id, { plain: true }));
  await say("m1");
  await say("m1");
  await joined.broker.stop();
  await rm(join(agentDirectory(joined.stateDirectory, agentKey(PROJECT, slug)), "delivered.ids"));
  Object.assign(joined, await joined.restart());
  expect((await say("m1")).status).toBe(200);
  expect((await say("m2")).status).toBe(200);
  const pasted = (await docker.typed()).slice(before).filter((entry) => entry.startsWith("paste:"));
  expect(pasted).toEqual(["paste:text m1", "paste:text m2"]);
});

test("exec, look and logs", async () => {
  await create();
  expect((await call("POST", "/exec", { command: ["sh", "-c", "echo out; exit 3"] })).json).toEqual({
    output: "out\n",
    exitCode: 3,
  });
  const calls = await docker.calls();
  expect(calls.filter((c) => c[0] === "exec").at(-1)).toEqual(expect.arrayContaining(["--user", "scion"]));
  expect((await call("POST", "/exec", { command: ["tmux", "capture-pane", "-pe", "-t", "scion"] })).get("output")).toBe(
    "the screen\n",
  );
  expect((await call("GET", "/logs")).text).toBe("from the container\n");
  // A reader's place is not looked for in what the container prints: whoever comes back gets all of it, and misses nothing.
  const follow = { type: "stream_open", streamType: "logs", slug, projectId: PROJECT, tail: 0 } as const;
  const asked = async (tail: string) =>
    (await docker.calls()).some((c) => c[0] === "logs" && c[1] === "--follow" && c[3] === tail);
  joined.session.send({ ...follow, streamId: systemRandom.uuid() });
  await eventually(() => asked("0"));
  joined.session.send({ ...follow, streamId: systemRandom.uuid(), after: "b25lCg" });
  await eventually(() => asked("all"));
  await writeFile(join(home(), "agent.log"), "kept by the tool\n");
  expect((await call("GET", "/logs")).text).toBe("kept by the tool\n");
});

test("stop, start again, delete; a stopped agent gets no messages", async () => {
  await create();
  const heartbeat = joined.hub.heartbeat.next((beat) => JSON.stringify(beat).includes(`"${slug}","status":"stopped"`));
  expect((await call("POST", "/stop")).status).toBe(202);
  await heartbeat;
  expect((await call("GET", "")).json).toMatchObject({
    phase: "stopped",
    containerStatus: "Exited (143) 1 second ago",
  });
  expect((await call("POST", "/message", messageBody("hi"))).get("error.code")).toBe("agent_not_running");
  expect((await call("POST", "/exec", { command: ["true"] })).get("error.code")).toBe("agent_not_running");
  expect((await call("POST", "/start", {})).get("agent.phase")).toBe("running");
  expect((await call("DELETE", "")).status).toBe(204);
  expect((await docker.calls()).at(-1)?.slice(0, 1)).not.toEqual(["run"]);
  expect((await call("GET", "")).status).toBe(404);
});

test("a new token is written inside, as the agent's user, and announced to the tool", async () => {
  await create();
  const answer = await call("POST", "/reset-auth", { token: "token-new" });
  const calls = (await docker.calls()).filter((c) => c[0] === "exec");
  const kill = calls.find((c) => c.includes("kill"));
  expect(kill).toEqual(expect.arrayContaining(["--user", "root", "kill", "-USR2", "1"]));
  expect(calls.flat().join(" ")).not.toContain("token-new");
  expect(answer.status).toBe(200);
  expect(await docker.token()).toBe("token-new");
});

test("a container that cannot be started fails the create with what docker said", async () => {
  await docker.refuseRuns(true);
  const answer = await create();
  await docker.refuseRuns(false);
  expect([answer.status, answer.get("error.code")]).toEqual([500, "runtime_error"]);
  expect(answer.get("error.message")).toContain("no such image");
  expect((await create({ id: systemRandom.uuid() })).status).toBe(201);
});

test("a docker that is down is said so, and answers name it", async () => {
  await create();
  await docker.breakDown(true);
  const answer = await call("GET", "");
  await docker.breakDown(false);
  expect([answer.status, answer.get("error.code")]).toEqual([500, "runtime_error"]);
  expect(answer.get("error.message")).toContain("Cannot connect");
});

test("lists of both tools are read", () => {
  const labels = { "scion.name": "a1" };
  const podman = JSON.stringify([
    { Id: "1", Names: ["x"], Status: "Up 2 minutes", Labels: labels },
    { Id: "2", Status: "", State: "exited", Labels: null },
  ]);
  expect(parseContainers(podman)).toEqual([
    { id: "1", status: "Up 2 minutes", labels },
    { id: "2", status: "exited", labels: {} },
  ]);
  const lines =
    '{"ID":"1","Status":"Exited (0) 3 hours ago","Labels":"scion.name=a1,b="}\n{"ID":"2","Status":"Up","Labels":""}\n';
  expect(parseContainers(lines).map((c) => [c.id, c.labels])).toEqual([
    ["1", { "scion.name": "a1", b: "" }],
    ["2", {}],
  ]);
  expect(parseContainers("null")).toEqual([]);
});
