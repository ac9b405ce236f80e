import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import { createTestStore, eventually, type Seed, seed, type TestStore } from "@rootstock/testkit";
import { transaction } from "../tx.ts";
import { claimRuntimeBroker, voidOlderClaims } from "./affinity.ts";
import { releaseMessages, settleDelivered } from "./deliveries.ts";
import { claimDispatches, completeDispatch, failDispatch, releaseDispatch } from "./dispatches.ts";
import { insertClaimedDispatch } from "./dispatchInserts.ts";
import { claimMessages, claimMessagesOf } from "./messageClaims.ts";
import { insertClaimedMessage } from "./messageInserts.ts";

/** What each kind of claim takes, and what it leaves: of one agent one thing at a time, in order, and only over its socket. */

let store: TestStore;
let rows: Seed;
let project: string;
let runtimeBroker: string;
let agent: string;
let owner: { readonly instanceId: string; readonly sessionId: string };

beforeAll(async () => {
  store = await createTestStore();
  rows = seed(store);
  project = await rows.project();
});
afterAll(() => store.drop());
beforeEach(async () => {
  owner = { instanceId: systemRandom.uuid(), sessionId: systemRandom.uuid() };
  runtimeBroker = await rows.runtimeBroker({
    status: "online",
    connected_hub_id: owner.instanceId,
    connected_session_id: owner.sessionId,
    connected_at: new Date(),
  });
  agent = await rows.agent({ project_id: project, runtime_broker_id: runtimeBroker, phase: "running" });
});

const scope = () => ({
  instanceId: owner.instanceId,
  busyAgents: [],
  sockets: [{ runtimeBrokerId: runtimeBroker, sessionId: owner.sessionId, slots: 10 }],
});
const message = (over: Record<string, unknown> = {}) =>
  rows.message({ project_id: project, agent_id: agent, runtime_broker_id: runtimeBroker, state: "pending", ...over });
const intent = (over: Record<string, unknown> = {}) =>
  rows.dispatch({ runtime_broker_id: runtimeBroker, agent_id: agent, agent_slug: "a", project_id: project, ...over });
const claimed = () => ({ claimed_by: owner.instanceId, claim_session: owner.sessionId });
const idsOf = (taken: readonly { readonly id: string }[]) => taken.map((t) => t.id);

const storeClaimed = async (): Promise<string[]> => {
  const id = systemRandom.uuid();
  const { stored } = await insertClaimedMessage(store.db, {
    claim: owner,
    acknowledged: [],
    acceptedBy: owner.instanceId,
    message: {
      id,
      projectId: project,
      agentId: agent,
      runtimeBrokerId: runtimeBroker,
      sender: "user:someone",
      senderId: null,
      recipient: "agent:someone",
      recipientId: null,
      msg: "hello",
      type: "message",
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
    },
  });
  return stored ? [id] : [];
};
const storeClaimedIntent = async (): Promise<string[]> => {
  const id = systemRandom.uuid();
  const dispatch = {
    id,
    runtimeBrokerId: runtimeBroker,
    agentId: agent,
    agentSlug: "a",
    projectId: project,
    op: "stop" as const,
    args: {},
    deadlineSeconds: 90,
    acceptedBy: owner.instanceId,
  };
  return (await insertClaimedDispatch(store.db, { dispatch, claim: owner })) ? [id] : [];
};

/** What each takes; a message that waits is there for those that take one. */
const MESSAGES: readonly [string, () => Promise<string[]>][] = [
  ["a claim of whatever waits", async () => idsOf(await claimMessages(store.db, scope()))],
  [
    "a claim for an agent that was named",
    async () =>
      idsOf(
        await claimMessagesOf(store.db, { ...scope(), agents: [{ agentId: agent, runtimeBrokerId: runtimeBroker }] }),
      ),
  ],
  ["an insert of a message already claimed", storeClaimed],
];
const INTENTS: readonly [string, () => Promise<string[]>][] = [
  ["a claim of operations", async () => idsOf(await claimDispatches(store.db, scope()))],
  ["an insert of an operation already claimed", storeClaimedIntent],
];

describe.each(MESSAGES)("%s", (_, claim) => {
  const waits = claim === storeClaimed ? async () => undefined : () => message();

  test("takes the message of an agent that listens", async () => {
    await waits();
    expect(await claim()).toHaveLength(1);
  });

  test.each(["pending", "in_progress"])("takes none beside an operation that is %s", async (state) => {
    await waits();
    const id = await intent({ state, ...(state === "in_progress" && claimed()) });
    expect(await claim()).toEqual([]);
    await store.query("update broker_dispatch set state = 'done' where id = $1", [id]);
    expect(await claim()).toHaveLength(1);
  });

  test("takes none beside one that is on its way", async () => {
    const first = await message({ state: "delivering", ...claimed() });
    await waits();
    expect(await claim()).toEqual([]);
    await store.query("update messages set state = 'delivered' where id = $1", [first]);
    expect(await claim()).toHaveLength(1);
  });

  test.each([
    ["is stopped", { phase: "stopped" }],
    ["has only just come up", { running_since: new Date(), ready_at: null }],
  ])("takes none for an agent that %s", async (_, change) => {
    await waits();
    for (const [column, value] of Object.entries(change))
      await store.query(`update agents set ${column} = $1 where id = $2`, [value, agent]);
    expect(await claim()).toEqual([]);
  });
});

test("the first message that waits is claimed, and none is stored as claimed before it", async () => {
  const first = await message();
  await message();
  expect(await storeClaimed()).toEqual([]);
  expect(idsOf(await claimMessages(store.db, scope()))).toEqual([first]);
});

test("a message that somebody else has locked is waited for, not passed over", async () => {
  const first = await message();
  await message();
  let claiming: Promise<{ readonly id: string }[]> | undefined;
  await transaction(store.another().db, async (tx) => {
    await tx.selectFrom("messages").select("id").where("id", "=", first).forUpdate().execute();
    claiming = claimMessages(store.db, scope());
    await somebodyWaits();
  });
  expect(idsOf((await claiming) ?? [])).toEqual([first]);
});

test("an agent's operations are claimed one after the other, in the order in which they were accepted", async () => {
  const [first, second] = [await intent(), await intent({ op: "start" })];
  expect(idsOf(await claimDispatches(store.db, scope()))).toEqual([first]);
  expect(idsOf(await claimDispatches(store.db, scope()))).toEqual([]);
  expect(await storeClaimedIntent()).toEqual([]);
  await store.query("update broker_dispatch set state = 'done' where id = $1", [first]);
  expect(idsOf(await claimDispatches(store.db, scope()))).toEqual([second]);
});

test("invariant 5: what an older socket gives back, or says of the end, of what a newer one has claimed changes nothing", async () => {
  const older = { ...owner, sessionId: systemRandom.uuid() };
  const [sent, begun] = [
    await message({ state: "delivering", ...claimed() }),
    await intent({ state: "in_progress", attempts: 1, ...claimed() }),
  ];
  const deliveries = [{ id: sent, sessionId: older.sessionId }];
  const late = { instanceId: owner.instanceId, deliveries };
  await releaseMessages(store.db, { ...late, reason: "late" });
  expect(await settleDelivered(store.db, late)).toEqual([]);
  const ofIntent = { id: begun, claim: older };
  await releaseDispatch(store.db, { ...ofIntent, sent: false, reason: "late" });
  expect(await completeDispatch(store.db, { ...ofIntent, result: {} })).toBe(false);
  expect(await failDispatch(store.db, { ...ofIntent, result: {}, error: "late" })).toBe(false);
  expect(await store.query("select state, claim_session from messages where id = $1", [sent])).toEqual([
    { state: "delivering", claim_session: owner.sessionId },
  ]);
  expect(await store.query("select state, claim_session from broker_dispatch where id = $1", [begun])).toEqual([
    { state: "in_progress", claim_session: owner.sessionId },
  ]);
});

/** Resolves once a statement waits for a lock. */
const somebodyWaits = () =>
  eventually(async () => {
    const waiting = await store.query(
      "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    );
    return waiting.length > 0;
  }, 5_000);

describe.each([...MESSAGES, ...INTENTS])("%s", (_, claim) => {
  test("waits for a newer socket that is being named, and then takes nothing for the older one", async () => {
    if (claim !== storeClaimed && claim !== storeClaimedIntent)
      await (INTENTS.some(([, c]) => c === claim) ? intent() : message());
    const newer = { runtimeBrokerId: runtimeBroker, sessionId: systemRandom.uuid() };
    let claiming: Promise<string[]> | undefined;
    await transaction(store.another().db, async (tx) => {
      await claimRuntimeBroker(tx, systemRandom.uuid(), newer);
      claiming = claim();
      await somebodyWaits();
      await voidOlderClaims(tx, [newer]);
    });
    expect(await claiming).toEqual([]);
  });
});
