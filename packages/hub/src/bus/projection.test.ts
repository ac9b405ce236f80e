import { afterEach, beforeEach, expect, test } from "@jest/globals";
import {
  createTestDatabase,
  type Seed,
  type StoreStack,
  seed,
  startStoreStack,
  type TestDatabase,
} from "@rootstock/testkit";
import { BUSY_ENTITIES, mayBeBusy } from "./busy.ts";
import { ChangeFeed } from "./changeFeed.ts";
import type { HubEvent } from "./hubEvent.ts";
import type { Position } from "./position.ts";

let db: TestDatabase;
let stack: StoreStack;
let rows: Seed;
let feed: ChangeFeed;
let at: Position;

beforeEach(async () => {
  db = await createTestDatabase();
  stack = await startStoreStack(db.url);
  rows = seed(db);
  feed = new ChangeFeed(stack.database.db);
  at = await feed.head();
});
afterEach(async () => {
  await stack.stop();
  await db.drop();
});

/** What the hub's own parts follow. */
const ABOUT_RIGHTS: readonly string[] = ["sight", "credential"];
const everything = async (): Promise<readonly HubEvent[]> => {
  const { outcome } = await feed.read(at);
  if (outcome.kind !== "batch") throw new Error(outcome.reason);
  at = outcome.to;
  // Whoever wants only other subjects than these is told nothing of agents and messages, which are then not read.
  for (const { entity, subjects } of outcome.events)
    if (BUSY_ENTITIES.some((busy) => busy === entity)) expect(subjects.filter((s) => !mayBeBusy(s))).toEqual([]);
  return outcome.events;
};
/** The events since the last call, those about rights left out. */
const news = async (): Promise<readonly HubEvent[]> =>
  (await everything()).filter(({ entity }) => !ABOUT_RIGHTS.includes(entity));
const aboutRights = async () => told((await everything()).filter(({ entity }) => ABOUT_RIGHTS.includes(entity)));
const told = (events: readonly HubEvent[]) => events.map((e) => ({ subjects: e.subjects, data: e.data }));
const agentSubjects = (agent: string, project: string, kind: string) => [
  `agent.${agent}.${kind}`,
  `project.${project}.agent.${kind}`,
  `grove.${project}.agent.${kind}`,
];

test("an agent's life: created, status, hidden, restored, gone", async () => {
  const p = await rows.project();
  const rb = await rows.runtimeBroker();
  await news();
  const a = await rows.agent({ project_id: p, slug: "fix", name: "fix", template: "claude", runtime_broker_id: rb });
  const ids = { agentId: a, projectId: p, groveId: p };
  const created = {
    ...ids,
    name: "fix",
    slug: "fix",
    template: "claude",
    phase: "created",
    runtimeBrokerId: rb,
    visibility: "private",
    created: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*\.\d{3}Z$/),
  };
  expect(told(await news())).toEqual([{ subjects: agentSubjects(a, p, "created"), data: created }]);

  await db.query(
    `update agents set phase = 'running', activity = 'executing', tool_name = 'bash', current_turns = 3,
       started_at = '2026-01-02T03:04:05.006Z', container_status = 'Up' where id = $1`,
    [a],
  );
  const status = {
    ...ids,
    phase: "running",
    activity: "executing",
    containerStatus: "Up",
    detail: { toolName: "bash", currentTurns: 3, startedAt: "2026-01-02T03:04:05.006Z" },
  };
  expect(told(await news())).toEqual([{ subjects: agentSubjects(a, p, "status"), data: status }]);

  await db.query("update agents set message = repeat('x', 5000) where id = $1", [a]);
  const [long] = await news();
  expect(long?.data).toMatchObject({ phase: "running", detail: { message: "x".repeat(5000) } });

  await db.query("update agents set last_seen = now(), updated = now(), last_activity_event = now() where id = $1", [
    a,
  ]);
  expect(await news()).toEqual([]);

  await db.query("update agents set deleted_at = now() where id = $1", [a]);
  expect(told(await news())).toEqual([{ subjects: agentSubjects(a, p, "deleted"), data: ids }]);
  await db.query("update agents set phase = 'stopped' where id = $1", [a]);
  expect(await news()).toEqual([]);
  await db.query("update agents set deleted_at = null, message = null where id = $1", [a]);
  expect(told(await news())).toEqual([
    {
      subjects: agentSubjects(a, p, "created"),
      data: { ...created, phase: "stopped", activity: "executing", containerStatus: "Up" },
    },
  ]);
  await db.query("delete from agents where id = $1", [a]);
  expect(told(await news())).toEqual([{ subjects: agentSubjects(a, p, "deleted"), data: ids }]);
});

test("a soft-deleted agent that is removed for good was told of already", async () => {
  const p = await rows.project();
  const a = await rows.agent({ project_id: p, deleted_at: new Date() });
  await news();
  await db.query("delete from agents where id = $1", [a]);
  expect(await news()).toEqual([]);
});

test("projects, and what a deleted project takes with it", async () => {
  const p = await rows.project({ name: "One", slug: "one" });
  const both = (kind: string) => [`project.${p}.${kind}`, `grove.${p}.${kind}`];
  const ids = { projectId: p, groveId: p };
  expect(told(await news())).toEqual([{ subjects: both("created"), data: { ...ids, name: "One", slug: "one" } }]);
  await db.query("update projects set name = 'Two'");
  expect(told(await news())).toEqual([{ subjects: both("updated"), data: { ...ids, name: "Two" } }]);
  const a = await rows.agent({ project_id: p });
  await news();
  await db.query("delete from projects");
  expect(told(await news())).toEqual(
    expect.arrayContaining([
      { subjects: both("deleted"), data: ids },
      { subjects: agentSubjects(a, p, "deleted"), data: { agentId: a, ...ids } },
    ]),
  );
});

test("a runtime broker's status is told to itself and to each project that it serves", async () => {
  const [p, q] = [await rows.project(), await rows.project()].sort();
  const rb = await rows.runtimeBroker({ name: "box" });
  for (const project of [p, q])
    await db.query("insert into project_providers (project_id, runtime_broker_id) values ($1, $2)", [project, rb]);
  const served = await news();
  expect(told(served).slice(-1)).toMatchObject([{ data: { brokerId: rb, brokerName: "box", status: "offline" } }]);
  await db.query("update runtime_brokers set status = 'online'");
  const inProject = (project: string | undefined, status: string) => ({
    subjects: [`project.${project}.broker.status`, `grove.${project}.broker.status`],
    data: { brokerId: rb, brokerName: "box", projectId: project, groveId: project, status },
  });
  const own = (status: string) => ({ subjects: [`broker.${rb}.status`], data: { brokerId: rb, status } });
  const events = await news();
  expect(told(events)).toEqual([own("online"), inProject(p, "online"), inProject(q, "online")]);
  expect(events.map((e) => e.origin.lastOfChange)).toEqual([false, false, true]);
  // Who holds the socket is nobody's business but the hub's.
  await db.query(
    `update runtime_brokers set connected_hub_id = gen_random_uuid(), connected_session_id = gen_random_uuid(),
       connected_at = now()`,
  );
  expect(await news()).toEqual([]);
  await db.query("delete from project_providers where project_id = $1", [p]);
  expect(told(await news())).toEqual([inProject(p, "offline")]);
});

test("messages to people and to agents, with their text, and a delivery that failed", async () => {
  const p = await rows.project();
  const a = await rows.agent({ project_id: p });
  const user = await rows.project();
  await news();
  const text = "ü".repeat(4000);
  const toUser = await rows.message({
    project_id: p,
    agent_id: a,
    sender: "agent:fix",
    sender_id: a,
    recipient: "user:ann",
    recipient_id: user,
    msg: text,
    type: "assistant-reply",
    urgent: true,
  });
  const [event] = await news();
  expect(event).toMatchObject({
    subjects: [`user.${user}.message`, `project.${p}.user.message`, `grove.${p}.user.message`, `agent.${a}.message`],
    parties: expect.arrayContaining([a, user]),
    data: {
      id: toUser,
      projectId: p,
      groveId: p,
      sender: "agent:fix",
      senderId: a,
      recipient: "user:ann",
      recipientId: user,
      msg: text,
      type: "assistant-reply",
      urgent: true,
      agentId: a,
      createdAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
    },
  });
  expect(event?.data).not.toHaveProperty("broadcasted");
  const toAgent = await rows.message({
    project_id: p,
    agent_id: a,
    sender_id: user,
    recipient_id: a,
    state: "pending",
  });
  expect((await news()).map((e) => e.subjects)).toEqual([[`agent.${a}.message`]]);
  await db.query("update messages set state = 'delivered', dispatched_at = now() where id = $1", [toAgent]);
  expect(await news()).toEqual([]);
  await db.query("update messages set state = 'failed', error = 'too old' where id = $1", [toAgent]);
  expect(told(await news())).toMatchObject([
    {
      subjects: [`agent.${a}.message.failed`, `project.${p}.message.failed`, `grove.${p}.message.failed`],
      data: { id: toAgent, error: "too old" },
    },
  ]);
});

test("a message that is gone before it is told is not told", async () => {
  const p = await rows.project();
  await news();
  await rows.message({ project_id: p, recipient_id: p });
  await db.query("delete from messages");
  expect(await news()).toEqual([]);
});

test("whose rights have changed is told to those who go by them: readers of projects and agents, holders of credentials", async () => {
  const p = await rows.project({ visibility: "team" });
  const sight = (of: string, data: object) => ({ subjects: [`sight.${of}.changed`], data });
  const ended = (id: string, of: string) => ({ subjects: [`credential.${id}.ended`], data: { id, of } });
  expect(await aboutRights()).toEqual([sight("project", { id: p, added: true, visibility: "team", labels: {} })]);
  const a = await rows.agent({ project_id: p });
  await db.query("update projects set name = 'another', labels = '{}', visibility = 'team'");
  await db.query("update agents set phase = 'running', labels = '{}'");
  expect(await aboutRights()).toEqual([]);
  await db.query("update projects set labels = jsonb_build_object('a', repeat('x', 3000))");
  await db.query("update agents set visibility = 'team'");
  expect(await aboutRights()).toEqual([sight("project", { id: p, visibility: "team" }), sight("agent", { id: a })]);
  await db.query("update agents set token_version = 2");
  await db.query("update agents set deleted_at = now()");
  await db.query("delete from agents");
  expect(await aboutRights()).toEqual([ended(a, "agent"), ended(a, "agent")]);
});

test("what nobody wants is not made; who begins to want something while it is read hears of it", async () => {
  const p = await rows.project();
  const people = [await rows.project(), await rows.project()];
  await news();
  for (const recipient_id of people) await rows.message({ project_id: p, recipient_id });
  const from = at;
  const nothing = await feed.read(from, () => false);
  expect(nothing).toMatchObject({ changes: 2, outcome: { kind: "batch", events: [] } });
  // The second one's listener comes while the first one's text is on its way here.
  let late = false;
  const step = await feed.read(from, (subjects) => {
    queueMicrotask(() => {
      late = true;
    });
    return late || subjects.includes(`user.${people[0]}.message`);
  });
  expect(step.outcome).toMatchObject({
    events: people.map((id) => ({ subjects: expect.arrayContaining([`user.${id}.message`]) })),
  });
});

test("every table is logged by its three triggers or is exempt on purpose", async () => {
  const exempt = [
    "user_identities",
    "sign_ins",
    "access_tokens",
    // Changes with what is logged.
    "access_version",
    "login_codes",
    "device_logins",
    "user_code_tries",
    "audit_log",
    // Addresses come and go; nothing else of them is news.
    "allow_list",
    "agent_token_versions",
    "rate_buckets",
    "open_streams",
    // One row, which is only ever changed.
    "maintenance",
    // Only ever filled as projects go, which is logged of them.
    "former_projects",
    "former_slugs",
    "auth_resets",
    "auth_reset_agents",
    "runtime_broker_heartbeats",
    "broker_secrets",
    "broker_join_tokens",
    "seen_nonces",
    "agent_config_values",
    "agent_kept_values",
    "broker_dispatch",
    "hub_replicas",
    "sweeps",
    "idempotency_keys",
    "change_log",
    "feed_meta",
    "feed_unbroken",
    "schema_version",
    "schema_migrations",
    "stream_frames",
    "trace_hops",
    "replica_names",
  ];
  const unlogged = await db.query<{ relname: string }>(
    `select c.relname from pg_class c where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace
       and (select count(distinct t.tgtype & 28) from pg_trigger t where t.tgrelid = c.oid and not t.tgisinternal
         and t.tgfoid in (select oid from pg_proc where proname like 'log\\_%')) <> 3`,
  );
  expect(unlogged.map((r) => r.relname).sort()).toEqual(exempt.sort());
});
