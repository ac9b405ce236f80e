import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { systemClock } from "@rootstock/service";
import { api, eventually, type Replica, Scene, TerminalClient } from "@rootstock/testkit";
import { agentOn, refusal } from "./stage.ts";

/** Replicas that cannot reach each other: the database passes everything on (design section 8). */

let scene: Scene;
beforeEach(async () => {
  scene = await Scene.create();
});
afterEach(() => scene.end());

const attach = async (replica: Replica, agent: string): Promise<TerminalClient> => {
  const client = await TerminalClient.attach(replica, agent);
  scene.onEnd(async () => client.cut());
  return client;
};

/** Somebody listens there who accepts nobody, with a full line before the door: the kernel answers no further knock. */
const addressThatDropsPackets = async (): Promise<string> => {
  const listen =
    'const s = require("net").createServer().listen(0, "127.0.0.1", 1, () => console.log(s.address().port))';
  const child = spawn(process.execPath, ["-e", listen], { stdio: ["ignore", "pipe", "inherit"] });
  const [port] = await once(createInterface({ input: child.stdout }), "line");
  child.kill("SIGSTOP");
  const waiting = Array.from({ length: 4 }, () => connect(Number(port), "127.0.0.1").on("error", () => {}));
  scene.onEnd(async () => {
    for (const socket of waiting) socket.destroy();
    child.kill("SIGKILL");
  });
  await eventually(() => waiting.filter((socket) => !socket.connecting).length >= 2);
  return `http://127.0.0.1:${port}`;
};

const NOWHERE = { ROOTSTOCK_INTERNAL_URL: "http://127.0.0.1:9" };

/** Keeps a copy of every frame that is ever put down. */
const keepFrames = async (): Promise<void> => {
  await scene.database.query("create table kept_frames (like stream_frames)");
  await scene.database.query(
    `create function keep() returns trigger language plpgsql as
     $$ begin insert into kept_frames values (new.*); return new; end $$`,
  );
  await scene.database.query("create trigger keep before insert on stream_frames for each row execute function keep()");
};

test("the database passes terminals, logs and exec on by itself, and shows nobody what", async () => {
  await keepFrames();
  const [owner, entry] = [await scene.replica(NOWHERE), await scene.replica(NOWHERE)];
  const { agent, terminals } = await agentOn(scene, owner, entry, {
    handle: (request) =>
      request.path.endsWith("/logs")
        ? { status: 200, body: "x".repeat(600_000), headers: { "Content-Type": "text/plain" } }
        : request.path.endsWith("/exec")
          ? { status: 200, body: { output: "done", exitCode: 3 } }
          : { status: 201, body: { agent: { name: "a1", phase: "running" }, created: true } },
  });
  for (let round = 0; round < 2; round += 1) {
    const client = await attach(entry, agent);
    const terminal = await terminals.nth(round);
    terminal.print("by detour");
    await client.shows("by detour");
    client.type("and back: a secret typed");
    await eventually(() => terminal.input().toString() === "and back: a secret typed");
  }
  const logs = await api(entry, "GET", `/api/v1/agents/${agent}/logs`);
  expect([logs.status, logs.text("logs").length]).toEqual([200, 600_000]);
  const exec = await api(entry, "POST", `/api/v1/agents/${agent}/exec`, {
    command: ["login", "--password", "a secret argument"],
  });
  expect([exec.status, exec.get("output"), exec.get("exitCode")]).toEqual([200, "done", 3]);
  const frames = await scene.database.query("select encode(body, 'escape') as text from kept_frames");
  expect(frames.length).toBeGreaterThan(10);
  const argument = Buffer.from('"login","--password","a secret argument"').toString("base64").slice(4, -4);
  const told = ["a secret typed", "by detour", "a secret argument", argument, "xxxxxxxx", "/exec"];
  expect(told.filter((secret) => frames.some(({ text }) => String(text).includes(secret)))).toEqual([]);
});

test("where packets to the owner are dropped, calls and terminals go through the database before their clients give up", async () => {
  const owner = await scene.replica({ ROOTSTOCK_INTERNAL_URL: await addressThatDropsPackets() });
  const entry = await scene.replica();
  const { agent, terminals } = await agentOn(scene, owner, entry);
  const begun = systemClock.elapsed();
  const logs = await api(entry, "GET", `/api/v1/agents/${agent}/logs`);
  expect(logs.status).toBe(200);
  expect(systemClock.elapsed() - begun).toBeLessThan(20_000);
  const client = await attach(entry, agent);
  (await terminals.nth(0)).print("by detour");
  await client.shows("by detour");
});

test("a command that is put down twice, since nobody knew whether it was, runs once", async () => {
  const [owner, detour] = [await scene.replica(), await scene.replica({ ROOTSTOCK_STREAM_RELAY: "postgres" })];
  const { agent, runtimeBroker } = await agentOn(scene, owner, detour);
  await scene.database.query(
    `create function twice() returns trigger language plpgsql as
     $$ begin insert into stream_frames (to_replica, from_replica, stream_id, seq, kind, body)
        values (new.to_replica, new.from_replica, new.stream_id, new.seq, new.kind, new.body); return null; end $$`,
  );
  await scene.database.query(
    "create trigger twice after insert on stream_frames for each row when (pg_trigger_depth() = 0) execute function twice()",
  );
  for (let n = 1; n <= 3; n += 1) {
    const exec = await api(detour, "POST", `/api/v1/agents/${agent}/exec`, { command: ["true"] });
    expect(exec.status).toBe(200);
    // What the owner was told before this has been read.
    expect((await api(detour, "GET", `/api/v1/agents/${agent}/logs`)).status).toBe(200);
    expect(runtimeBroker.received.filter(({ path }) => path.endsWith("/exec"))).toHaveLength(n);
  }
});

test("switched off, it is not used, and who asks first whether there is a terminal is told so where no way leads there", async () => {
  const [owner, entry] = [await scene.replica(NOWHERE), await scene.replica({ ROOTSTOCK_STREAM_RELAY: "peer" })];
  const { agent } = await agentOn(scene, owner, entry);
  expect((await refusal(entry, agent)).status).toBe(503);
  const preflight = () => api(entry, "GET", `/api/v1/agents/${agent}/pty`);
  expect((await preflight()).status).toBe(200);
  await scene.database.query("update hub_replicas set internal_url = null where instance_id = $1", [
    owner.hub.instanceId,
  ]);
  expect((await refusal(entry, agent)).status).toBe(503);
  const refused = await preflight();
  expect([refused.status, refused.get("error.code")]).toEqual([503, "runtime_broker_unavailable"]);
  expect((await api(entry, "GET", `/api/v1/agents/${agent}/logs`)).status).toBe(503);
});

test("frames that are lost end the stream; the viewer is told to come back", async () => {
  const owner = await scene.replica();
  const detour = await scene.replica({ ROOTSTOCK_STREAM_RELAY: "postgres" });
  const s = await agentOn(scene, owner, detour);
  const client = await attach(detour, s.agent);
  const terminal = await s.terminals.nth(0);
  terminal.print("one;");
  await client.shows("one;");
  await scene.database.query("create table lost_frames (from_replica uuid)");
  await scene.database.query(
    `create function lose() returns trigger language plpgsql as
     $$ begin insert into lost_frames values (new.from_replica); return null; end $$`,
  );
  await scene.database.query(
    `create trigger lose before insert on stream_frames for each row when (new.kind = 'sealed.data') execute function lose()`,
  );
  terminal.print("two;");
  client.type("x");
  await eventually(async () => {
    const lost = await scene.database.query("select distinct from_replica from lost_frames");
    return lost.length === 2;
  });
  await scene.database.query("drop trigger lose on stream_frames");
  terminal.print("three;");
  expect(await client.closed).toEqual({ code: 4503, reason: "runtime_stream_dropped" });
  await terminal.closed;
  expect(client.output().toString()).toBe("one;");
  expect(terminal.inputBytes).toBe(0);
  const again = await attach(detour, s.agent);
  (await s.terminals.nth(1)).print("again");
  await again.shows("again");
});
