import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { api, eventually, type InProcessReplica, Scene, type SimulatedRuntimeBroker } from "@rootstock/testkit";
import { PostgresProxy } from "./chaos/postgresProxy.ts";

/**
 * In the middle of an operation an owner writes something about the agent, and the database gets it late: when the runtime
 * broker has connected elsewhere, and the new owner has carried the operation out.
 */

let scene: Scene;
let proxy: PostgresProxy;
let owner: InProcessReplica;
let entry: InProcessReplica;
let runtimeBroker: SimulatedRuntimeBroker;
let agent: string;
let place: { url: string };

beforeEach(async () => {
  scene = await Scene.create();
  proxy = await PostgresProxy.start(scene.database.url);
  owner = await scene.replica({}, { databaseUrl: proxy.url });
  entry = await scene.replica();
  place = { url: owner.url };
  runtimeBroker = await scene.runtimeBroker(owner, { hubUrl: () => place.url });
  agent = await scene.agent(entry, await scene.project(entry), "a1");
});
afterEach(async () => {
  await scene.end();
  await proxy.stop();
});

const shown = () => scene.database.query("select phase, run_id from agents where id = $1", [agent]);

/** Keeps the owner's next statement with these words back, and has the runtime broker connect elsewhere meanwhile. */
const moveBefore = async (words: string, asked: Promise<unknown>): Promise<() => void> => {
  asked.catch(() => {});
  const write = await proxy.hold(words);
  place.url = entry.url;
  const moved = runtimeBroker.onSession.next();
  runtimeBroker.cut();
  await moved;
  return write;
};

test("invariant 5: of a restart: that the agent is down does not count once it is up again through another replica", async () => {
  const asked = api(owner, "POST", `/api/v1/agents/${agent}/restart`);
  const write = await moveBefore("run_id = null, phase =", asked);
  await eventually(async () => {
    const rows = await scene.database.query("select state from broker_dispatch where op = 'restart'");
    expect(rows).toEqual([{ state: "done" }]);
  });
  const settled = await shown();
  write();
  const answer = await asked;
  expect([answer.status, answer.get("phase")]).toEqual([200, "running"]);
  expect(await shown()).toEqual(settled);
});

test("a restart whose socket goes when it has stopped the agent has used an attempt", async () => {
  const asked = api(owner, "POST", `/api/v1/agents/${agent}/restart`);
  const opened = await proxy.holdAnswer("update agents set run_id = ");
  place.url = "http://127.0.0.1:9";
  runtimeBroker.cut();
  const tried = () => scene.database.query("select state, attempts from broker_dispatch where op = 'restart'");
  await eventually(async () => {
    const held = await scene.database.query("select 1 from runtime_brokers where connected_hub_id is not null");
    expect(held).toEqual([]);
  });
  opened();
  await eventually(async () => expect(await tried()).toEqual([{ state: "pending", attempts: 1 }]));
  place.url = entry.url;
  expect((await asked).get("phase")).toBe("running");
  expect(await tried()).toEqual([{ state: "done", attempts: 2 }]);
});

test("invariant 5: of a start: that it comes up does not count once it was up, and stopped, through another replica", async () => {
  expect((await api(entry, "POST", `/api/v1/agents/${agent}/stop`)).status).toBe(200);
  const asked = api(entry, "POST", `/api/v1/agents/${agent}/start`);
  const write = await moveBefore("update agents set run_id = ", asked);
  expect((await asked).get("phase")).toBe("running");
  expect((await api(entry, "POST", `/api/v1/agents/${agent}/stop`)).get("phase")).toBe("stopped");
  const settled = await shown();
  write();
  await eventually(async () => {
    const { body } = await api(owner, "GET", "/metrics");
    expect(body).toMatch(/rootstock_dispatches_total\{op="start",way="forward",outcome="lost"\} 1/);
  });
  expect(await shown()).toEqual(settled);
});
