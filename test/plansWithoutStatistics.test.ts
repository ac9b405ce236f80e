import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { api, type InProcessReplica, Scene } from "@rootstock/testkit";
import { PlanCapture, pagesRead } from "./plans/capturedPlans.ts";

/** A database whose tables nobody has looked over yet: the planner takes what it finds for cheap, and little tells it otherwise. */

const TOLD_BEFORE = 20_000;
/** What a few look-ups read; all that one agent was ever told is in several times as many. */
const FEW_PAGES = 150;
/** A statement is planned anew for its first runs, and once for all later ones. */
const TIMES = 8;

let scene: Scene;
let capture: PlanCapture;
let owner: InProcessReplica;
let entry: InProcessReplica;

beforeEach(async () => {
  scene = await Scene.create();
  for (const table of ["messages", "agents", "broker_dispatch"])
    await scene.database.query(`alter table ${table} set (autovacuum_enabled = off)`);
  capture = await PlanCapture.begin(scene.database);
  owner = await scene.replica();
  entry = await scene.replica();
});
afterEach(async () => {
  capture.end();
  await scene.end();
});

test("a message to an agent that was told thousands costs no look at those", async () => {
  await scene.runtimeBroker(owner);
  const agent = await scene.agent(owner, await scene.project(owner), "a1");
  const send = async () => {
    for (let n = 0; n < TIMES; n += 1)
      for (const replica of [entry, owner]) {
        const { status } = await api(replica, "POST", `/api/v1/agents/${agent}/message`, { message: `text ${n}` });
        expect(status).toBe(200);
      }
  };
  // Plans are made while there is next to nothing, and kept.
  await send();
  await scene.database.query(
    `insert into messages (id, project_id, agent_id, runtime_broker_id, sender, sender_id, recipient, msg, state)
     select gen_random_uuid(), a.project_id, a.id, a.runtime_broker_id, 'user:old', a.owner_id, 'agent:a1', 'told before', 'delivered'
       from agents a, generate_series(1, $2::int) where a.id = $1`,
    [agent, TOLD_BEFORE],
  );
  capture.plans.length = 0;
  await send();
  const ofMessages = capture.plans.filter((p) => /\bmessages\b/.test(p.text));
  expect(ofMessages.length).toBeGreaterThanOrEqual(TIMES);
  const costly = ofMessages.filter((p) => pagesRead(p) > FEW_PAGES);
  expect(costly.map((p) => `${pagesRead(p)} pages: ${p.text.slice(0, 200)}`)).toEqual([]);
});
