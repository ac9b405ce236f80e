import { afterAll, beforeAll, beforeEach, expect, test } from "@jest/globals";
import type { Uuid } from "@rootstock/protocol";
import { systemRandom } from "@rootstock/service";
import { createTestStore, eventually, type Seed, seed, type TestStore } from "@rootstock/testkit";
import pg from "pg";
import { insertInboxMessage, type NewMessage } from "./messageInserts.ts";
import { linkProvider, unlinkProvider } from "./providers.ts";
import { deleteAgentRows, deleteProject, deleteRuntimeBroker, emptyProject } from "./removals.ts";
import { expireDispatches } from "./sweeps.ts";

/**
 * Everybody locks rows in one order: projects, runtime brokers, operations, messages, agents, those of a kind by their ids.
 * Who waits for a row holds none that comes after it, or whoever holds the first and goes on to the second meets a deadlock.
 */

let store: TestStore;
let rows: Seed;
let other: pg.Client;
let project: string;
let runtimeBroker: string;
let agents: string[];

beforeAll(async () => {
  store = await createTestStore();
  rows = seed(store);
  other = new pg.Client({ connectionString: store.url });
  await other.connect();
});
afterAll(async () => {
  await other.end();
  await store.drop();
});
beforeEach(async () => {
  await other.query("rollback");
  project = await rows.project();
  runtimeBroker = await rows.runtimeBroker();
  const made = Array.from({ length: 8 }, () => rows.agent({ project_id: project, runtime_broker_id: runtimeBroker }));
  agents = (await Promise.all(made)).sort();
  await linkProvider(store.db, link());
});

const link = () => ({ projectId: project, runtimeBrokerId: runtimeBroker, localPath: null, linkedBy: "test" });
const agent = (): string => agents[0] ?? "";
const operations = (state: string) =>
  Promise.all(
    agents.map((agent_id) =>
      rows.dispatch({ runtime_broker_id: runtimeBroker, agent_id, state, deadline_at: new Date(0), ...CLAIMED }),
    ),
  );
const CLAIMED = { claimed_by: systemRandom.uuid(), claim_session: systemRandom.uuid() };

const toPerson = (): NewMessage => ({
  id: systemRandom.uuid(),
  projectId: project as Uuid,
  agentId: agent() as Uuid,
  runtimeBrokerId: null,
  sender: "agent:a",
  senderId: agent() as Uuid,
  recipient: "user:u",
  recipientId: systemRandom.uuid(),
  msg: "text",
  type: "instruction",
  urgent: false,
  broadcasted: false,
  groupId: null,
  channel: null,
  threadId: null,
  envelope: {},
  interrupt: false,
  holdReason: null,
  createdBy: null,
  traceparent: null,
});

const PROJECT = ["projects", () => `id = '${project}'`] as const;
const RUNTIME_BROKER = ["runtime_brokers", () => `id = '${runtimeBroker}'`] as const;
const LINK = ["project_providers", () => `project_id = '${project}'`] as const;
const OPERATION = ["broker_dispatch", () => `agent_id = '${agent()}'`] as const;
const FIRST_AGENT = ["agents", () => `id = '${agent()}'`] as const;
const OTHER_AGENTS = ["agents", () => `project_id = '${project}' and id <> '${agent()}'`] as const;

type Rows = readonly [table: string, where: () => string];

test.each<[string, Rows, Rows, () => Promise<unknown>]>([
  ["an unlink", PROJECT, LINK, () => unlinkProvider(store.db, project, runtimeBroker)],
  ["a link", PROJECT, LINK, () => linkProvider(store.db, { ...link(), localPath: "/elsewhere" })],
  [
    "a message to a person",
    PROJECT,
    FIRST_AGENT,
    () => insertInboxMessage(store.db, { message: toPerson(), acceptedBy: systemRandom.uuid() }),
  ],
  ["the end of a project", PROJECT, LINK, () => deleteProject(store.db, project)],
  ["the end of a runtime broker", PROJECT, RUNTIME_BROKER, () => deleteRuntimeBroker(store.db, runtimeBroker)],
  ["the end of an agent", OPERATION, FIRST_AGENT, () => deleteAgentRows(store.db, agents)],
  ["the end of a project's agents", OPERATION, OTHER_AGENTS, () => emptyProject(store.db, project)],
  ["operations that expire", FIRST_AGENT, OTHER_AGENTS, () => expireDispatches(store.db, 100)],
])("%s", async (_, first, second, work) => {
  await operations(first === FIRST_AGENT ? "pending" : "in_progress");
  if (first === FIRST_AGENT) await store.query("update agents set launching = true, phase = 'starting'");
  await other.query("begin");
  await other.query(`select from ${first[0]} where ${first[1]()} for update`);
  const working = work();
  await eventually(
    async () =>
      (
        await store.query(
          "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
        )
      ).length === 1,
  );
  const free = await other.query(`select from ${second[0]} where ${second[1]()} for update nowait`);
  expect(free.rowCount).toBeGreaterThan(0);
  await other.query("rollback");
  await working;
});
