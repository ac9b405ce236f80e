import { type ChildProcess, spawn } from "node:child_process";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import { recordOutput } from "@rootstock/testkit";
import { agentDirectory, agentKey } from "./agents/agentRecord.ts";
import { FakeHub, type FakeSession } from "./testing/fakeHub.ts";
import { createBody, makeStateDirectory, messageBody, PROJECT, query } from "./testing/setup.ts";

/** A runtime broker that is killed, as a real process, and what its agents know of it: nothing. */

const PROGRAM = fileURLToPath(new URL("./testing/brokerProgram.ts", import.meta.url));

let hub: FakeHub;
let state: Awaited<ReturnType<typeof makeStateDirectory>>;
let env: NodeJS.ProcessEnv;
let program: ChildProcess | undefined;

beforeEach(async () => {
  hub = new FakeHub();
  await hub.start();
  state = await makeStateDirectory();
  const { brokerId, joinToken } = hub.invite();
  env = {
    PATH: process.env.PATH,
    ROOTSTOCK_HUB_URL: hub.url,
    ROOTSTOCK_RUNTIME_BROKER_STATE: state.path,
    ROOTSTOCK_JOIN_TOKEN: joinToken,
    ROOTSTOCK_RUNTIME_BROKER_ID: brokerId,
    ROOTSTOCK_LOG_LEVEL: "trace",
  };
});

afterEach(async () => {
  if (program) await kill("SIGKILL");
  await state.clean();
  await hub.stop();
});

const launch = async (): Promise<FakeSession> => {
  const connected = hub.connected.next();
  program = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", PROGRAM], {
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  recordOutput(program, "runtime-broker");
  return connected;
};

const kill = async (signal: NodeJS.Signals): Promise<void> => {
  const target = program;
  program = undefined;
  const ended = new Promise((resolve) => target?.once("exit", resolve));
  target?.kill(signal);
  await ended;
};

const create = async (session: FakeSession, slug: string): Promise<Record<string, unknown>> => {
  const body = createBody(slug);
  expect((await session.request("POST", "/api/v1/agents", { body })).status).toBe(201);
  return body;
};

const send = (session: FakeSession, slug: string, text: string, id: string) =>
  session.request("POST", `/api/v1/agents/${slug}/message`, { query, body: messageBody(text, id) });

const occurrences = async (session: FakeSession, slug: string, text: string): Promise<number> => {
  // What is typed later is printed later: once the marker shows, everything before it has been printed.
  const marker = systemRandom.uuid();
  const terminal = session.terminal(slug, PROJECT);
  await send(session, slug, marker, systemRandom.uuid());
  await terminal.shows(`received: ${marker}`);
  const logs = await session.request("GET", `/api/v1/agents/${slug}/logs`, { query });
  return logs.text.split(`received: ${text}\n`).length - 1;
};

test("an agent outlives a runtime broker that is killed, and a message that comes again is typed once", async () => {
  const first = await launch();
  await create(first, "a1");
  const before = await first.request("GET", "/api/v1/agents/a1", { query });
  const { requestId } = first.sendRequest("POST", "/api/v1/agents/a1/message", {
    query,
    body: messageBody("only once", "m-1"),
  });
  await first.answer(requestId);
  await kill("SIGKILL");
  const second = await launch();
  const after = await second.request("GET", "/api/v1/agents/a1", { query });
  expect(after.json).toMatchObject({ phase: "running", containerId: before.get("containerId") });
  expect((await send(second, "a1", "only once", "m-1")).status).toBe(200);
  expect(await occurrences(second, "a1", "only once")).toBe(1);
});

test("killed after the typing and before it was written down: the session remembers", async () => {
  const first = await launch();
  await create(first, "a1");
  await send(first, "a1", "in between", "m-2");
  await kill("SIGKILL");
  await rm(join(agentDirectory(state.path, agentKey(PROJECT, "a1")), "delivered.ids"));
  const second = await launch();
  expect((await send(second, "a1", "in between", "m-2")).status).toBe(200);
  expect(await occurrences(second, "a1", "in between")).toBe(1);
});

test("a message that was typed into an earlier session is not typed into the next", async () => {
  const first = await launch();
  await create(first, "a1");
  await send(first, "a1", "long ago", "m-3");
  await first.request("POST", "/api/v1/agents/a1/stop", { query });
  await kill("SIGKILL");
  const second = await launch();
  await second.request("POST", "/api/v1/agents/a1/start", { query });
  expect((await send(second, "a1", "long ago", "m-3")).status).toBe(200);
  expect(await occurrences(second, "a1", "long ago")).toBe(1);
});

test("a runtime broker that is killed while messages come in: each is typed once when they come again", async () => {
  const first = await launch();
  await create(first, "a1");
  const ids = Array.from({ length: 60 }, (_, i) => `b-${i}`);
  const sent = ids.map((id) =>
    first.sendRequest("POST", "/api/v1/agents/a1/message", { query, body: messageBody(`text ${id}.`, id) }),
  );
  await first.answer(sent[20]?.requestId ?? "");
  await kill("SIGKILL");
  const second = await launch();
  for (const id of ids) expect((await send(second, "a1", `text ${id}.`, id)).status).toBe(200);
  for (const id of ids) expect([id, await countOf(second, `text ${id}.`)]).toEqual([id, 1]);
});

const countOf = async (session: FakeSession, text: string): Promise<number> => {
  const logs = await session.request("GET", "/api/v1/agents/a1/logs", { query });
  if (!logs.text.includes(`received: ${text}\n`)) return occurrences(session, "a1", text);
  return logs.text.split(`received: ${text}\n`).length - 1;
};

test("a stop of the runtime broker leaves its agents running", async () => {
  const first = await launch();
  await create(first, "a1");
  await kill("SIGTERM");
  expect((await first.closed).code).toBe(1000);
  const second = await launch();
  expect((await second.request("GET", "/api/v1/agents/a1", { query })).get("phase")).toBe("running");
});

test("an agent that ended while nobody watched is reported at the next start", async () => {
  const first = await launch();
  const body = await create(first, "a1");
  await kill("SIGKILL");
  await state.endSessions();
  hub.reports.length = 0;
  await launch();
  const report = await hub.report((r) => r.agentId === body.id && r.get("phase") === "error");
  expect(report.get("message")).toMatch(/Agent (ended unseen|crashed)/);
});

test("a create that a crash cut off is settled by the same request, without a second session", async () => {
  const first = await launch();
  const body = createBody("a1", { config: { task: "the task" } });
  const made = await first.request("POST", "/api/v1/agents", { body });
  await kill("SIGKILL");
  await rm(join(state.path, "create-requests"), { recursive: true });
  const second = await launch();
  const again = await second.request("POST", "/api/v1/agents", { body });
  expect([again.status, again.get("agent.containerId")]).toEqual([201, made.get("agent.containerId")]);
  expect(await occurrences(second, "a1", "the task")).toBe(1);
});
