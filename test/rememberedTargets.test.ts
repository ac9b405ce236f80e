import { afterEach, beforeEach, expect, test } from "@jest/globals";
import {
  api,
  eventually,
  type InProcessReplica,
  Scene,
  type SimulatedRuntimeBroker,
  testLogin,
} from "@rootstock/testkit";

/**
 * Invariant 8 for messages and stops: a replica may decide on what it knows of an agent from the call before, and never
 * acts on it once that has changed elsewhere.
 */

let scene: Scene;
let owner: InProcessReplica;
let entry: InProcessReplica;
let runtimeBroker: SimulatedRuntimeBroker;
let project: string;
let agent: string;
/** Where the runtime broker dials. */
let hubUrl: string;

const NOBODY_LISTENS = "http://127.0.0.1:1";

beforeEach(async () => {
  scene = await Scene.create();
  owner = await scene.replica();
  entry = await scene.replica();
  hubUrl = owner.url;
  runtimeBroker = await scene.runtimeBroker(owner, { hubUrl: () => hubUrl });
  project = await scene.project(owner);
  agent = await scene.agent(owner, project, "a1");
  // Both know the agent from here on, by its id and by its name.
  for (const replica of [owner, entry])
    for (const path of paths()) expect((await send(replica, path, "first")).status).toBe(200);
});
afterEach(() => scene.end());

const paths = () => [`/api/v1/agents/${agent}/message`, `/api/v1/projects/${project}/agents/a1/message`];

const send = (replica: InProcessReplica, path: string, msg: string) =>
  api(replica, "POST", path, { structured_message: { msg } });

/** What each replica answers by each path, as status and code. */
const answers = async (): Promise<string[]> => {
  const got: string[] = [];
  for (const replica of [owner, entry])
    for (const path of paths()) {
      const sent = await send(replica, path, "second");
      got.push(`${sent.status} ${sent.status < 400 ? sent.get("state") : sent.get("error.code")}`);
    }
  return got;
};

const stored = () => scene.database.query("select 1 from messages where msg = 'second'");

test("a stopped agent takes no message, wherever it was stopped", async () => {
  expect((await api(owner, "POST", `/api/v1/agents/${agent}/stop`)).status).toBe(200);
  expect(await answers()).toEqual(Array(4).fill("409 agent_not_running"));
  expect(await stored()).toEqual([]);
});

test("a deleted agent is not found, and one of the same name that follows it gets what is for it", async () => {
  expect((await api(entry, "DELETE", `/api/v1/agents/${agent}`)).status).toBeLessThan(300);
  expect(await answers()).toEqual(Array(4).fill("404 not_found"));
  const next = await scene.agent(entry, project, "a1");
  const sent = await send(owner, `/api/v1/projects/${project}/agents/a1/message`, "second");
  expect(sent.status).toBe(200);
  const [message] = await scene.database.query("select agent_id from messages where msg = 'second'");
  expect(message?.agent_id).toBe(next);
});

test("an agent whose runtime broker has gone holds the message and says why, and gets it afterwards", async () => {
  hubUrl = NOBODY_LISTENS;
  runtimeBroker.cut();
  await eventually(async () => {
    const [row] = await scene.database.query("select connected_hub_id from runtime_brokers");
    return row?.connected_hub_id === null;
  });
  expect(await answers()).toEqual(Array(4).fill("202 pending"));
  hubUrl = entry.url;
  await eventually(async () => {
    const waiting = await scene.database.query("select 1 from messages where state <> 'delivered'");
    return waiting.length === 0;
  });
});

test("an agent that moved to another runtime broker gets its messages there", async () => {
  const other = await scene.runtimeBroker(entry);
  await scene.database.query("update agents set runtime_broker_id = $1 where id = $2", [other.id, agent]);
  expect(await answers()).toEqual(Array(4).fill("200 dispatched"));
  expect(other.delivered).toHaveLength(4);
});

/** The paths at which an agent is stopped. */
const stops = () => paths().map((path) => path.replace(/message$/, "stop"));
const stopsAt = ({ received }: SimulatedRuntimeBroker) => received.filter(({ path }) => path.endsWith("/stop"));

test("a stop goes where the agent runs now", async () => {
  const other = await scene.runtimeBroker(entry);
  await scene.database.query("update agents set runtime_broker_id = $1 where id = $2", [other.id, agent]);
  for (const replica of [owner, entry])
    for (const path of stops()) {
      const stopped = await api(replica, "POST", path);
      expect([stopped.status, stopped.get("phase")]).toEqual([200, "stopped"]);
    }
  expect(stopsAt(runtimeBroker)).toHaveLength(0);
  expect(stopsAt(other)).toHaveLength(4);
});

test("a stop of an agent that was deleted elsewhere is refused, and leaves no intent", async () => {
  await scene.database.query("update agents set deleted_at = now() where id = $1", [agent]);
  for (const replica of [owner, entry])
    for (const path of stops()) expect((await api(replica, "POST", path)).status).toBe(404);
  expect(await scene.database.query("select 1 from broker_dispatch where op = 'stop'")).toEqual([]);
});

test("who owned an agent does not stop it once it is somebody else's", async () => {
  const person = async (email: string) => (await testLogin(replica, { email, role: "member" })).text("accessToken");
  const replica = await scene.replica({ ROOTSTOCK_TEST_LOGIN: "1" });
  const [mel, val] = [await person("mel@example.org"), await person("val@example.org")];
  const nowOf = (email: string) =>
    scene.database.query(
      `update agents set owner_id = (select id from users where email = $1), ancestry = '{}', visibility = 'private',
        phase = 'running' where id = $2`,
      [email, agent],
    );
  const stop = async (token: string) => (await api(replica, "POST", stops()[0] ?? "", {}, { token })).status;
  await nowOf("mel@example.org");
  expect([await stop(mel), await stop(val)]).toEqual([200, 404]);
  await nowOf("val@example.org");
  expect([await stop(mel), await stop(val)]).toEqual([404, 200]);
});
