import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { Uuid } from "@rootstock/protocol";
import { systemClock, systemRandom } from "@rootstock/service";
import * as store from "@rootstock/store";
import { api, type InProcessReplica, openEventStream, Scene, seed, testLog, writePast } from "@rootstock/testkit";
import { type CapturedPlan, nodesOf, PlanCapture, type PlanNode, pagesRead, rowsSeen } from "./plans/capturedPlans.ts";
import { writeManyGroups } from "./plans/manyGroups.ts";
import { NAMES, writeManyNames } from "./plans/manyNames.ts";

/**
 * What months leave behind costs today's calls nothing (design section 11): the plan of every statement that a hub
 * sends over a well-filled database, as the server ran it.
 */

const PAST = { agents: 100_000, messages: 1_000_000, changes: 1_000_000, others: 100_000 };
/** Longer than the oldest of the past waits: the sweeps of the replicas find nothing to do in it. */
const KEPT = { ROOTSTOCK_MESSAGE_RETENTION: "720h" };
const GROWING = [
  "agents",
  "messages",
  "change_log",
  "broker_dispatch",
  "idempotency_keys",
  "seen_nonces",
  "runtime_broker_heartbeats",
  "groups",
  "group_memberships",
  "policies",
  "policy_bindings",
  "users",
  "runtime_brokers",
  "allow_list",
  "audit_log",
];
/** A statement is planned anew for its first runs, and once for all later ones. */
const TIMES = 7;
const PAGE = 50;

/** Far below every share of the past: the person's agents are a tenth of all, 10,000. */
const USUAL = { rows: 300, pages: 800 };
/** What looks at the agents that run, a hundredth of all, reads each of them, and what lies next to it. */
const RUNNING = { rows: 1.5 * (PAST.agents / 100), pages: 2_000 };
/** The oldest changes, of which some may have to go: once a minute. */
const PRUNED = { rows: 10_000, pages: 2_000 };
/** A count of what has a name looks at each of them: two milliseconds. */
const COUNT_OF_NAMES = /^select count\(\*\)[^(]* from "?(users|runtime_brokers|allow_list)"?( |$)/;
const NAMED = { rows: 1.5 * NAMES, pages: 2_000 };
/** A count of a list ends here, in each of its parts; it may skip some rows. */
const COUNTED = { rows: 1.5 * (store.COUNTED_EXACTLY + PAGE), pages: Number.POSITIVE_INFINITY };

let scene: Scene;
let entry: InProcessReplica;
let owner: InProcessReplica;
let capture: PlanCapture;
let database: store.Database;
let project: string;
let agent: string;
let userId: string;

beforeAll(async () => {
  scene = await Scene.create();
  const first = await scene.replica(KEPT);
  project = await scene.project(first);
  let home = first.url;
  const machine = await scene.runtimeBroker(first, { hubUrl: () => home });
  agent = await scene.agent(first, project, "present");
  userId = (await api(first, "GET", "/api/v1/auth/me")).text("id");
  await writePast(scene.database.url, PAST, { agentId: agent, userId });
  // However long the test takes, nobody in the past becomes silent in it.
  await scene.database.query(
    "update agents set last_seen = t, last_activity_event = t from (select now() + interval '1 day' as t) later where phase = 'running'",
  );
  await writeManyGroups(scene.database, { userId, agentId: agent });
  await scene.database.query("analyze groups, group_memberships, policies, policy_bindings, users");
  await writeManyNames(scene.database);

  capture = await PlanCapture.begin(scene.database);
  owner = await scene.replica(KEPT);
  entry = await scene.replica(KEPT);
  home = owner.url;
  const moved = machine.onSession.next();
  await first.stop();
  await moved;
  database = new store.Database({
    url: scene.database.url,
    pooled: false,
    poolSize: 1,
    applicationName: "plans",
    clock: systemClock,
    log: testLog(),
  });
}, 300_000);
afterAll(async () => {
  capture?.end();
  await database?.stop();
  await scene?.end();
});

const limitOf = (text: string) => {
  if (COUNT_OF_NAMES.test(text)) return NAMED;
  if (text.startsWith("with oldest as materialized")) return PRUNED;
  if (text.startsWith("select count(*)")) return COUNTED;
  return /\bphase = 'running'/.test(text) ? RUNNING : USUAL;
};

const isOfGrowing = (node: PlanNode): boolean => GROWING.includes(node["Relation Name"] ?? "");

const excesses = (plans: readonly CapturedPlan[]): string[] => {
  const found = plans.flatMap((captured) => {
    const limit = limitOf(captured.text);
    const faults = nodesOf(captured.plan).flatMap((node) => {
      const reads = node["Index Name"] ?? node["Relation Name"];
      const where = `${node["Node Type"]} on ${reads}`;
      const whole = node["Node Type"] === "Seq Scan" && isOfGrowing(node);
      const workers = node["Node Type"].startsWith("Gather") && nodesOf(node).some(isOfGrowing);
      const many = reads !== undefined && rowsSeen(node) > limit.rows;
      return [...(whole || workers ? [where] : []), ...(many ? [`${where}: ${rowsSeen(node)} rows`] : [])];
    });
    const pages = pagesRead(captured);
    if (pages > limit.pages) faults.push(`${pages} pages`);
    return faults.map((fault) => `${fault}\n    ${captured.text.slice(0, 400)}`);
  });
  return [...new Set(found)];
};

/** Runs `work` often enough, and gives the plans of all statements meanwhile. */
const plansOf = async (work: () => Promise<unknown>): Promise<readonly CapturedPlan[]> => {
  const from = capture.plans.length;
  for (let i = 0; i < TIMES; i += 1) await work();
  return capture.plans.slice(from);
};

const texts = (plans: readonly CapturedPlan[]): string => plans.map((p) => p.text).join("\n");

test("a message through another replica: stored, claimed, settled, looked up, told", async () => {
  const stream = await openEventStream(entry, { patterns: [`agent.${agent}.>`] });
  const plans = await plansOf(async () => {
    const sent = await api(entry, "POST", `/api/v1/agents/${agent}/message`, { message: "a line of text" });
    expect(sent.status).toBe(200);
  });
  await stream.close();
  expect(texts(plans)).toMatch(/insert into messages/);
  expect(texts(plans)).toMatch(/from messages/);
  expect(texts(plans)).toMatch(/update messages/);
  expect(texts(plans)).toMatch(/from change_log/);
  expect(texts(plans)).toMatch(/insert into change_log/);
  expect(excesses(plans)).toEqual([]);
});

test("a message is stored and claimed by look-ups of its agent and its socket alone, on its owner and from elsewhere", async () => {
  const plans = await plansOf(async () => {
    for (const replica of [owner, entry]) {
      const sent = await api(replica, "POST", `/api/v1/agents/${agent}/message`, { message: "a line of text" });
      expect(sent.status).toBe(200);
    }
  });
  const way = plans.filter(({ text }) => /^with (fence|there|held)\b.* (insert into|update) messages /.test(text));
  expect(texts(way)).toMatch(/insert into messages .* 'delivering'/);
  expect(texts(way)).toMatch(/insert into messages .* 'pending'/);
  expect(texts(way)).toMatch(/update messages m set state = 'delivering'/);
  // However many agents run, and however much is under way.
  const read = way.flatMap(({ plan }) => nodesOf(plan).filter((node) => node["Relation Name"] !== undefined));
  expect(read.filter((node) => rowsSeen(node) > 3).map((node) => node["Index Name"])).toEqual([]);
  // Others hold the same rows in another order, all rows of an agent, or all that runs.
  const own = ["messages_pkey", "messages_pending", "messages_one_in_flight", "broker_dispatch_unfinished"];
  const single = ["agents_pkey", "projects_pkey", "runtime_brokers_pkey"];
  const used = new Set(read.map((node) => node["Index Name"] ?? "").filter((name) => name !== ""));
  expect([...used].filter((name) => ![...own, ...single].includes(name))).toEqual([]);
});

test("where a message and an operation are", async () => {
  const sent = await api(entry, "POST", `/api/v1/agents/${agent}/message`, { message: "a line of text" });
  const { dispatches } = (await api(entry, "GET", `/api/v1/agents/${agent}/dispatches`)).json as {
    dispatches: { readonly id: string }[];
  };
  const plans = await plansOf(async () => {
    expect((await api(entry, "GET", `/api/v1/messages/${sent.text("message_id")}/trace`)).status).toBe(200);
    expect((await api(entry, "GET", `/api/v1/dispatches/${dispatches[0]?.id}`)).status).toBe(200);
    expect((await api(entry, "GET", `/api/v1/agents/${agent}/dispatches`)).status).toBe(200);
  });
  expect(texts(plans)).toMatch(/trace_hops/);
  expect(excesses(plans)).toEqual([]);
});

test("a stop through another replica", async () => {
  const plans = await plansOf(async () => {
    await scene.database.query("update agents set phase = 'running' where id = $1", [agent]);
    expect((await api(entry, "POST", `/api/v1/agents/${agent}/stop`)).status).toBe(200);
  });
  await scene.database.query("update agents set phase = 'running', ready_at = now() where id = $1", [agent]);
  expect(texts(plans)).toMatch(/broker_dispatch/);
  expect(excesses(plans)).toEqual([]);
});

/** Reads a list's first page, and the next one where there is one. */
const twoPages = async (template: string): Promise<void> => {
  const path = template.replace(":project", project).replace(":agent", agent).replace(":user", userId);
  const page = await api(entry, "GET", `${path}limit=${PAGE}`);
  expect(page.status).toBe(200);
  const cursor = page.get("nextCursor");
  if (typeof cursor !== "string") return;
  const next = await api(entry, "GET", `${path}limit=${PAGE}&cursor=${cursor}`);
  expect(next.status).toBe(200);
};

describe("a page of a list", () => {
  test.each([
    ["agents", "/api/v1/agents?"],
    ["agents, deleted ones too", "/api/v1/agents?includeDeleted=true&"],
    ["agents of a project", "/api/v1/projects/:project/agents?"],
    ["running agents", "/api/v1/agents?phase=running&"],
    ["running agents of a project", "/api/v1/projects/:project/agents?phase=running&"],
    ["own agents", "/api/v1/agents?scope=mine&"],
    ["others' agents in own projects", "/api/v1/agents?scope=shared&"],
    ["own agents and others' in own projects", "/api/v1/agents?mine=true&"],
    ["agents of an owner", "/api/v1/agents?ownerId=:user&"],
    ["the inbox", "/api/v1/messages?"],
    ["unread messages", "/api/v1/messages?unread=true&"],
    ["messages from an agent", "/api/v1/messages?agent=:agent&"],
    ["messages from an agent by its name", "/api/v1/messages?agent=past-8&"],
    ["the conversation with an agent", "/api/v1/agents/:agent/messages?"],
  ])("%s", async (_, template) => {
    const plans = await plansOf(() => twoPages(template));
    expect(texts(plans)).toMatch(/order by/);
    expect(excesses(plans)).toEqual([]);
  });

  test("agents, to a person who is no administrator", async () => {
    const filter: store.AgentFilter = { scope: { kind: "user", userId: userId as Uuid } };
    const plans = await plansOf(async () => {
      const page = await store.listAgents(database.db, filter, { limit: PAGE });
      const last = page.at(-1);
      expect(page).toHaveLength(PAGE);
      await store.listAgents(database.db, filter, { limit: PAGE, after: last });
      await store.countAgents(database.db, filter, PAGE);
    });
    expect(excesses(plans)).toEqual([]);
  });
});

describe("a page of what is known by name", () => {
  test.each([
    ["runtime brokers", "/api/v1/runtime-brokers?"],
    ["runtime brokers of a project", "/api/v1/runtime-brokers?projectId=:project&"],
    ["people", "/api/v1/users?"],
    ["people by name", "/api/v1/users?sort=name&"],
    ["addresses that are allowed", "/api/v1/admin/allow-list?"],
    ["the audit log", "/api/v1/admin/audit?"],
    ["what somebody did", "/api/v1/admin/audit?actor=:user&"],
    ["what was done to an agent", "/api/v1/admin/audit?target=:agent&"],
    ["what was done in a project", "/api/v1/projects/:project/audit?"],
    ["the runtime brokers of a project", "/api/v1/projects/:project/providers?"],
  ])("%s", async (_, template) => {
    const plans = await plansOf(() => twoPages(template));
    expect(excesses(plans)).toEqual([]);
  });

  test("the runtime brokers that a new agent may run on", async () => {
    const plans = await plansOf(async () => {
      await store.runtimeBrokerCandidates(database.db, project as Uuid);
      const named = { projectId: project as Uuid, name: "named-77", id: undefined };
      expect(await store.runtimeBrokersNamed(database.db, named)).toHaveLength(1);
    });
    expect(excesses(plans)).toEqual([]);
  });
});

test("the end of a runtime broker and of an agent with others beside them", async () => {
  const rows = seed(scene.database);
  const plans = await plansOf(async () => {
    const gone = await rows.runtimeBroker();
    const one = await rows.agent({ project_id: project, runtime_broker_id: gone });
    await store.deleteRuntimeBroker(database.db, gone as Uuid);
    await store.failWaitingMessages(database.db, [one as Uuid]);
    await store.leaveEndedMessages(database.db, one as Uuid);
    await store.deleteAgentRows(database.db, [one as Uuid]);
    const empty = await rows.project();
    await rows.agent({ project_id: empty });
    await store.emptyProject(database.db, empty as Uuid);
    await store.deleteProject(database.db, empty as Uuid);
  });
  expect(excesses(plans.filter((p) => !isCascadeToOperations(p)))).toEqual([]);
});

/** With a runtime broker its operations go, once; an index for that would cost each of them. */
const isCascadeToOperations = ({ text }: CapturedPlan): boolean => /^DELETE FROM ONLY .*broker_dispatch/.test(text);

describe("groups and policies", () => {
  test("weak point 22: one statement tells what they say of a person or an agent, and reads little", async () => {
    const plans = await plansOf(async () => {
      await store.userAccessStanding(database.db, userId as Uuid);
      await store.agentAccessStanding(database.db, { id: agent as Uuid, ancestry: [userId as Uuid] });
      const person = await store.userAccessRules(database.db, userId as Uuid);
      expect(person.groups.length).toBeGreaterThan(16);
      expect(person.policies.length).toBeGreaterThan(16);
      const own = await store.agentAccessRules(database.db, { id: agent as Uuid, ancestry: [userId as Uuid] });
      expect(own.groups.length).toBeGreaterThan(8);
    });
    expect(plans.filter((p) => p.text.includes("with recursive"))).toHaveLength(2 * TIMES);
    expect(plans.filter((p) => p.text.includes("from access_version"))).toHaveLength(4 * TIMES);
    expect(excesses(plans)).toEqual([]);
  });

  test("pages of groups and policies", async () => {
    const plans = await plansOf(async () => {
      const groups = await store.listGroups(database.db, {}, { limit: PAGE });
      await store.listGroups(database.db, {}, { limit: PAGE, after: groups.at(-1) });
      const policies = await store.listPolicies(database.db, {}, { limit: PAGE });
      await store.listPolicies(database.db, {}, { limit: PAGE, after: policies.at(-1) });
    });
    expect(excesses(plans)).toEqual([]);
  });

  test("a page of agents, to a person whom groups and policies show some", async () => {
    const visible = { allow: true, ids: [], visibility: ["team", "public"] };
    const grants = {
      managed: [project],
      joined: [project],
      projects: [visible],
      agents: [{ allow: false, ids: [agent] }, visible],
    };
    const filter: store.AgentFilter = { scope: { kind: "user", userId: userId as Uuid, grants } };
    const plans = await plansOf(async () => {
      const page = await store.listAgents(database.db, filter, { limit: PAGE });
      expect(page).toHaveLength(PAGE);
      await store.listAgents(database.db, filter, { limit: PAGE, after: page.at(-1) });
      await store.countAgents(database.db, filter, PAGE);
    });
    expect(excesses(plans)).toEqual([]);
  });
});

test("an agent by its name in any project", async () => {
  const plans = await plansOf(() => api(entry, "POST", "/api/v1/agents/past-7/message", { message: "hello" }));
  expect(texts(plans)).toMatch(/slug/);
  expect(excesses(plans)).toEqual([]);
});

test("a runtime broker that comes, and what a replica asks for what it holds", async () => {
  const [machine] = await scene.database.query<{ id: Uuid; hub: Uuid; session: Uuid }>(
    "select id, connected_hub_id as hub, connected_session_id as session from runtime_brokers where connected_hub_id is not null",
  );
  if (!machine) throw new Error("no runtime broker is connected");
  const held = { runtimeBrokerId: machine.id, sessionId: machine.session };
  const plans = await plansOf(async () => {
    await store.claimRuntimeBroker(database.db, machine.hub, held);
    await store.voidOlderClaims(database.db, [held]);
    await store.findMismatches(database.db, machine.hub, [held]);
    await store.runtimeBrokersWithWork(database.db, machine.hub);
    await store.writeHeartbeats(database.db, [{ ...held, status: "online", capabilities: undefined }]);
    await store.recordNonces(database.db, [{ ...held, nonce: systemRandom.uuid() }]);
  });
  expect(excesses(plans)).toEqual([]);
});

test("the burial of a dead replica", async () => {
  const rows = seed(scene.database);
  const plans = await plansOf(async () => {
    const dead = await rows.replica();
    await store.findSuspectReplicas(database.db, { leaseSeconds: 10, unseenSeconds: 3 });
    await store.buryReplica(database.db, dead as Uuid);
  });
  expect(texts(plans)).toMatch(/messages/);
  expect(excesses(plans)).toEqual([]);
});

test("sweeps that find nothing to do, or little", async () => {
  const { db } = database;
  const limit = 200;
  const rows = seed(scene.database);
  const plans = await plansOf(async () => {
    await rows.agent({ project_id: project, deleted_at: new Date(0), phase: "stopped" });
    await store.expireDispatches(db, limit);
    await store.failOverdueDispatches(db, { overdueSeconds: 60, limit });
    await store.takeBackStaleClaims(db, { staleSeconds: 5, limit });
    // Longer than the oldest of the past waits.
    await store.failUndeliveredMessages(db, { maxAgeSeconds: 30 * 86_400, limit });
    await store.markAgentsOffline(db, { silentSeconds: 3_600, limit });
    await store.markAgentsStalled(db, { stalledSeconds: 3_600, silentSeconds: 3_600, limit });
    await store.markSilentRuntimeBrokersOffline(db, { redialGraceMs: 5_000, heartbeatGraceMs: 90_000, limit });
    await store.purgeDeletedAgents(db, { retentionSeconds: 30 * 86_400, limit });
    await store.deleteStrayStreamFrames(db, { olderThanSeconds: 60, limit });
    await store.deleteOldNonces(db, 660_000, limit);
    await store.deleteExpiredJoinTokens(db);
    await store.deleteExpiredIdempotencyKeys(db, limit);
    await store.pruneChangeLog(db, { maxAgeSeconds: 604_800, maxRows: 2_000_000, limit });
    await store.deleteFinishedDispatches(db, { maxAgeSeconds: 604_800, limit });
    await store.trimDeliveredEnvelopes(db, { maxAgeSeconds: 604_800, limit });
  });
  expect(excesses(plans)).toEqual([]);
});

test("nothing else that ran meanwhile read more: polls, leases, heartbeats, sweeps of the replicas themselves", () => {
  expect(capture.plans.length).toBeGreaterThan(1_000);
  expect(excesses(capture.plans.filter((p) => !isCascadeToOperations(p)))).toEqual([]);
});
