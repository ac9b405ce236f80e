import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { agentDirectory, agentKey } from "../agents/agentRecord.ts";
import { createBody, PROJECT, query } from "../testing/setup.ts";
import { OperationsScene } from "./operations.testing.ts";

/** Commands beside an agent, its log, its token (spec/01 4.1). */

const scene = new OperationsScene();
const { name, call, create, say } = scene;

test("exec gives output and exit code, the agent's environment, and a screen to who looks", async () => {
  const slug = name();
  await create(slug, { resolvedEnv: { MINE: "mine-is-c3e1" } });
  const exec = (command: string[], timeout = 10) => call("POST", `/api/v1/agents/${slug}/exec`, { command, timeout });
  expect((await exec(["sh", "-c", "echo out; echo err >&2; exit 3"])).json).toMatchObject({ exitCode: 3 });
  expect((await exec(["sh", "-c", "echo $MINE $SCION_AGENT_SLUG $SCION_AUTH_TOKEN"])).json).toEqual({
    output: `mine-is-c3e1 ${slug}\n`,
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
  const slow = scene.joined.session.sendRequest("POST", `/api/v1/agents/${slug}/exec`, {
    query,
    body: { command: ["sh", "-c", "while [ ! -e go ]; do sleep 0.05; done; echo went"], timeout: 20 },
  });
  expect((await say(slug, "meanwhile")).status).toBe(200);
  expect((await call("POST", `/api/v1/agents/${slug}/exec`, { command: ["touch", "go"] })).get("exitCode")).toBe(0);
  expect((await scene.joined.session.answer(slow.requestId)).get("output")).toBe("went\n");
});

test("a command that prints more than the hub can read has run: its output is cut, whatever it is made of", async () => {
  const slug = name();
  await create(slug);
  const exec = (script: string) => call("POST", `/api/v1/agents/${slug}/exec`, { command: ["sh", "-c", script] });
  // In JSON six times as long.
  const binary = await exec("head -c 400000 /dev/zero; exit 3");
  expect([binary.status, binary.get("exitCode")]).toEqual([200, 3]);
  const output = String(binary.get("output"));
  expect(output).toMatch(/^\0+\n\[output cut: .*\]$/);
  expect(output.length).toBeGreaterThan(100_000);
  const whole = await exec("head -c 100000 /dev/zero");
  expect(whole.get("output")).toBe("\0".repeat(100_000));
  expect(String((await exec("yes 'a€😀' | head -c 600000")).get("output")).isWellFormed()).toBe(true);
});

test("an answer that the original could not read becomes an error, a log its end, what a command printed its beginning", async () => {
  scene.joined.hub.maxFrameBytes = undefined;
  const { session } = await scene.joined.restart();
  const slug = name();
  await session.request("POST", "/api/v1/agents", { body: createBody(slug) });
  const exec = await session.request("POST", `/api/v1/agents/${slug}/exec`, {
    query,
    body: { command: ["sh", "-c", "head -c 60000 /dev/zero | tr '\\0' x"] },
  });
  expect([exec.status, exec.get("exitCode")]).toEqual([200, 0]);
  expect(exec.get("output")).toMatch(/^x{40000,}\n\[output cut: /);
  for (let n = 0; n < 5; n += 1) {
    const config = { image: "i".repeat(12_000) };
    await session.request("POST", "/api/v1/agents", { body: createBody(name(), { config, provisionOnly: true }) });
  }
  const list = await session.request("GET", "/api/v1/agents", { query });
  expect([list.status, list.get("error.code")]).toEqual([413, "payload_too_large"]);
  const directory = agentDirectory(scene.joined.stateDirectory, agentKey(PROJECT, slug));
  await writeFile(join(directory, "agent.log"), `${"line\n".repeat(50_000)}last\n`, { flag: "a" });
  const logs = await session.request("GET", `/api/v1/agents/${slug}/logs`, { query });
  expect(logs.status).toBe(200);
  expect(logs.text.length).toBeGreaterThan(40_000);
  expect(logs.text.endsWith("line\nlast\n")).toBe(true);
  scene.joined.hub.maxFrameBytes = 1_048_576;
  Object.assign(scene.joined, await scene.joined.restart());
});

test("reset-auth replaces the token", async () => {
  const slug = name();
  await create(slug);
  const reset = (token: string) => call("POST", `/api/v1/agents/${slug}/reset-auth`, { token });
  expect((await reset("agent-token-9-7f3c")).status).toBe(200);
  const home = join(agentDirectory(scene.joined.stateDirectory, agentKey(PROJECT, slug)), "home");
  expect(await readFile(join(home, ".scion", "scion-token"), "utf8")).toBe("agent-token-9-7f3c");
  expect((await reset("two\nlines")).get("error.details.field")).toBe("token");
  await call("POST", `/api/v1/agents/${slug}/stop`);
  expect((await reset("agent-token-9-7f3c")).get("error.code")).toBe("agent_not_running");
});
