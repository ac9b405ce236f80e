import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import { eventually } from "@rootstock/testkit";
import { sessionFile } from "../runtimes/process/hostProtocol.ts";
import type { FakeSession, FakeTerminal } from "../testing/fakeHub.ts";
import { createBody, type Joined, joinedBroker, PROJECT, query } from "../testing/setup.ts";

/** Streams that end in every way leave nothing behind, neither here nor in the agent's session. */

let joined: Joined;
beforeAll(async () => {
  joined = await joinedBroker();
});
afterAll(() => joined.stop());

const becomes = (read: () => Promise<unknown>, expected: unknown): Promise<void> =>
  eventually(async () => expect(await read()).toBe(expected));

const openStreams = async (session: FakeSession): Promise<unknown> =>
  JSON.parse((await session.request("GET", "/api/v1/info")).text).openStreams;

/** The process of the agent's session host. */
const hostPid = async (): Promise<number> => {
  const agents = join(joined.stateDirectory, "agents");
  const [key = ""] = await readdir(agents);
  return sessionFile.parse(JSON.parse(await readFile(join(agents, key, "session.json"), "utf8"))).hostPid;
};

/** Connections of the agent's session host. */
const connections = async (): Promise<number> => (await readdir(`/proc/${await hostPid()}/fd`)).length;

const follow = (session: FakeSession): string => {
  const streamId = systemRandom.uuid();
  session.send({ type: "stream_open", streamId, streamType: "logs", slug: "a1", projectId: PROJECT, tail: 100 });
  return streamId;
};

test("viewers that leave, a channel that is lost, and a session whose host is killed", async () => {
  expect((await joined.session.request("POST", "/api/v1/agents", { body: createBody("a1") })).status).toBe(201);
  const terminals: FakeTerminal[] = [];
  const open = async (session: FakeSession): Promise<string[]> => {
    const logs: string[] = [];
    for (let n = 0; n < 10; n += 1) {
      terminals.push(session.terminal("a1", PROJECT));
      logs.push(follow(session));
    }
    await Promise.all(terminals.slice(-10).map((terminal) => terminal.shows("shell>")));
    await becomes(() => openStreams(session), 20);
    return logs;
  };
  // The runtime broker keeps one connection of its own; a first look makes it.
  const found = await joined.session.request("GET", "/api/v1/agents/a1", { query });
  expect(found.status).toBe(200);
  const before = await connections();

  const logs = await open(joined.session);
  expect(await connections()).toBeGreaterThanOrEqual(before + 10);
  for (const terminal of terminals.splice(0)) terminal.close();
  for (const streamId of logs)
    joined.session.send({ type: "stream_close", streamId, reason: "session closed", code: 0 });
  await becomes(() => openStreams(joined.session), 0);
  await becomes(connections, before);

  await open(joined.session);
  const next = joined.hub.connected.next();
  joined.session.socket.terminate();
  const session = await next;
  await becomes(() => openStreams(session), 0);
  await becomes(connections, before);

  const looking = session.terminal("a1", PROJECT);
  await looking.shows("shell>");
  process.kill(await hostPid(), "SIGKILL");
  expect(await looking.closed).toMatchObject({ code: 4410, reason: "agent_stopped" });
});
