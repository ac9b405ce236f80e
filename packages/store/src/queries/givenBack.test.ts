import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { systemClock, systemRandom } from "@rootstock/service";
import { createTestStore, type Seed, seed, type TestStore } from "@rootstock/testkit";
import { sql } from "kysely";
import { voidOlderClaims } from "./affinity.ts";
import { releaseDispatch } from "./dispatches.ts";
import { returnDispatches } from "./replicas.ts";

/** What becomes of an operation that lost its socket, and what its agent says, whoever writes that down. */

let store: TestStore;
let rows: Seed;
let project: string;

beforeAll(async () => {
  store = await createTestStore();
  rows = seed(store);
});
afterAll(() => store.drop());
beforeEach(async () => {
  project = await rows.project();
});

const claimed = async (
  agent: Record<string, unknown>,
  op: string,
  attempts: number,
  over: Record<string, unknown> = {},
) => {
  const [instanceId, sessionId] = [systemRandom.uuid(), systemRandom.uuid()];
  const runtimeBrokerId = await rows.runtimeBroker();
  const agentId = await rows.agent({ project_id: project, runtime_broker_id: runtimeBrokerId, ...agent });
  const id = await rows.dispatch({
    runtime_broker_id: runtimeBrokerId,
    agent_id: agentId,
    op,
    state: "in_progress",
    claimed_by: instanceId,
    claim_session: sessionId,
    attempts,
    ...over,
  });
  return { id, agentId, runtimeBrokerId, claim: { instanceId, sessionId } };
};
type Claimed = Awaited<ReturnType<typeof claimed>>;

const of = async ({ id, agentId }: Claimed) => {
  const [dispatch] = await store.query("select state, error from broker_dispatch where id = $1", [id]);
  const [agent] = await store.query("select phase, launching, message from agents where id = $1", [agentId]);
  return { dispatch, agent };
};

const LAUNCHING = { phase: "starting", launching: true };

describe.each<[string, (c: Claimed) => Promise<unknown>]>([
  [
    "by whoever held the socket",
    ({ id, claim }) => releaseDispatch(store.db, { id, claim, sent: true, reason: "the socket was lost" }),
  ],
  [
    "by whoever holds the next socket",
    ({ runtimeBrokerId }) => voidOlderClaims(store.db, [{ runtimeBrokerId, sessionId: systemRandom.uuid() }]),
  ],
  [
    "by whoever buries the replica",
    ({ claim }) => returnDispatches(store.db, sql`d.claimed_by = ${claim.instanceId}`, "its replica died"),
  ],
])("taken back %s", (_, takeBack) => {
  test("a start that has no attempts left leaves no agent that is coming up for ever", async () => {
    const start = await claimed(LAUNCHING, "start", 3);
    await takeBack(start);
    const { dispatch, agent } = await of(start);
    expect(dispatch).toEqual({ state: "failed", error: expect.any(String) });
    expect(agent).toEqual({ phase: "error", launching: false, message: dispatch?.error });
  });

  test("a stop that has no attempts left is told by the agent, which runs on as far as anybody knows", async () => {
    const stop = await claimed({ phase: "running" }, "stop", 3);
    await takeBack(stop);
    const { dispatch, agent } = await of(stop);
    expect(dispatch).toMatchObject({ state: "failed" });
    expect(agent).toMatchObject({ phase: "running", message: `stop failed: ${dispatch?.error}` });
  });

  test("with attempts left nothing is said of it", async () => {
    const start = await claimed(LAUNCHING, "start", 2);
    await takeBack(start);
    expect(await of(start)).toMatchObject({ dispatch: { state: "pending" }, agent: { ...LAUNCHING, message: null } });
  });

  test("a start that took longer than its deadline allows is asked about all the same; a stop is not repeated so late", async () => {
    const ago = (seconds: number) => new Date(systemClock.now() - seconds * 1_000);
    const late = { claimed_at: ago(100), deadline_at: ago(10) };
    const left = async ({ id }: Claimed) => {
      const [row] = await store.query<{ left: number }>(
        "select round(extract(epoch from deadline_at - now()) / 10)::int as left from broker_dispatch where id = $1",
        [id],
      );
      return row?.left;
    };
    const start = await claimed(LAUNCHING, "start", 1, late);
    await takeBack(start);
    expect(await of(start)).toMatchObject({ dispatch: { state: "pending" }, agent: LAUNCHING });
    expect(await left(start)).toBe(9);
    const stop = await claimed({ phase: "running" }, "stop", 1, late);
    await takeBack(stop);
    expect(await left(stop)).toBe(-1);
  });
});
