import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import type { Trace } from "@rootstock/protocol";
import {
  type ApiReply,
  api,
  eventually,
  type ReplicaProcess,
  Scene,
  type SimulatedRuntimeBroker,
  startReplicaProcess,
} from "@rootstock/testkit";
import { PostgresProxy } from "./chaos/postgresProxy.ts";

/**
 * The first row of the failure table (design section 10): the owner is killed (-9) at each of four moments of a message
 * and of an operation that another replica accepted, and the runtime broker reconnects elsewhere.
 */

const SLUG = "a1";

/** What all tests share: the database, and the replica that survives. */
let scene: Scene;
let proxy: PostgresProxy;
let owner: ReplicaProcess;
let entry: ReplicaProcess;
/** Another entry, which calls no other replica. */
let secluded: ReplicaProcess;
let runtimeBroker: SimulatedRuntimeBroker & { readonly id: string };
let agent: string;
let place: { url: string };
let project: string;

const end = async (replica: ReplicaProcess): Promise<void> => {
  replica.signal("SIGKILL");
  await replica.exited;
};

beforeAll(async () => {
  scene = await Scene.create();
  entry = await startReplicaProcess({ databaseUrl: scene.database.url, name: "entry" });
  scene.onEnd(() => end(entry));
  secluded = await startReplicaProcess({
    databaseUrl: scene.database.url,
    name: "secluded",
    env: { ROOTSTOCK_STREAM_RELAY: "postgres" },
  });
  scene.onEnd(() => end(secluded));
  project = await scene.project(entry);
});
afterAll(() => scene.end(), 30_000);

beforeEach(async () => {
  proxy = await PostgresProxy.start(scene.database.url);
  const started = await startReplicaProcess({ databaseUrl: proxy.url, name: "owner" });
  owner = started;
  place = { url: started.url };
  const here = place;
  const connected = await scene.runtimeBroker(started, { hubUrl: () => here.url });
  runtimeBroker = connected;
  agent = await scene.agent(entry, project, SLUG, connected.id);
});
afterEach(async () => {
  await runtimeBroker.stop();
  await end(owner);
  await proxy.stop();
  await scene.database.query("delete from agents");
  await scene.database.query("delete from messages");
  await scene.database.query("delete from broker_dispatch");
});

const MOMENTS = [
  "accept and claim",
  "claim and send",
  "send and acknowledgement",
  "acknowledgement and completion",
] as const;
type Moment = (typeof MOMENTS)[number];

interface Work {
  readonly path: string;
  readonly claims: string;
  readonly completes: string;
  readonly ask: () => Promise<ApiReply>;
}

const MESSAGE: Work = {
  path: "/message",
  claims: "update messages m set state = 'delivering'",
  completes: "update messages m set state = 'delivered'",
  ask: () => api(entry, "POST", `/api/v1/agents/${agent}/message`, { structured_message: { msg: "once" } }),
};
const stopClaimedBy = (claims: string, of: () => ReplicaProcess): Work => ({
  path: "/stop",
  claims,
  completes: "update broker_dispatch d set state = 'done'",
  ask: () => api(of(), "POST", `/api/v1/agents/${agent}/stop`),
});
/** Which the owner is asked for, and for which it makes the row. */
const STOP = stopClaimedBy("claim_session, attempts, claimed_at)", () => entry);
/** Which the owner is told of, by an entry that calls nobody. */
const SIGNALLED_STOP = stopClaimedBy("update broker_dispatch d set state = 'in_progress'", () => secluded);

const kill = (): void => {
  place.url = entry.url;
  owner.signal("SIGKILL");
};

/** Has the work done and the owner killed at that moment of it. */
const killedBetween = async (moment: Moment, work: Work): Promise<ApiReply> => {
  if (moment === "accept and claim") {
    owner.signal("SIGSTOP");
    const asked = work.ask();
    const table = work === MESSAGE ? "messages" : "broker_dispatch";
    await eventually(
      async () => (await scene.database.query(`select 1 from ${table} where state = 'pending'`)).length === 1,
    );
    kill();
    return asked;
  }
  if (moment === "claim and send") {
    const claimed = proxy.holdAnswer(work.claims);
    const asked = work.ask();
    await claimed;
    kill();
    return asked;
  }
  if (moment === "send and acknowledgement") {
    runtimeBroker.holdAnswers();
    const asked = work.ask();
    await runtimeBroker.onRequest.next((r) => r.path.endsWith(work.path));
    kill();
    runtimeBroker.releaseAnswers();
    return asked;
  }
  const completing = proxy.hold(work.completes);
  const asked = work.ask();
  await completing;
  kill();
  return asked;
};

const received = (path: string) => runtimeBroker.received.filter((r) => r.path.endsWith(path));
const wasSentBefore = (moment: Moment): boolean =>
  moment === "send and acknowledgement" || moment === "acknowledgement and completion";

describe.each(MOMENTS)("owner killed between %s", (moment) => {
  test("invariants 1 and 3: a message is delivered once after the runtime broker reconnects elsewhere; sent again only where it may have been sent, and then with the same id", async () => {
    const answer = await killedBetween(moment, MESSAGE);
    expect([200, 202]).toContain(answer.status);
    await eventually(async () => {
      const rows = await scene.database.query("select state from messages");
      expect(rows).toEqual([{ state: "delivered" }]);
    });
    expect(runtimeBroker.delivered).toHaveLength(1);
    const ids = received("/message").map((r) => Reflect.get(Object(r.json), "message_id"));
    expect(ids).toEqual(Array(wasSentBefore(moment) ? 2 : 1).fill(answer.text("message_id")));
  });

  test.each([
    ["asked for at", STOP],
    ["signalled to", SIGNALLED_STOP],
  ])(
    "invariants 1 and 2: a stop that was %s the owner is carried out after the runtime broker reconnects elsewhere, and again only where it may have been before",
    async (_, work) => {
      const answer = await killedBetween(moment, work);
      expect([answer.status, answer.get("phase")]).toEqual([200, "stopped"]);
      const rows = await scene.database.query("select state from broker_dispatch where op = 'stop'");
      expect(rows).toEqual([{ state: "done" }]);
      expect(received("/stop").length).toBeLessThanOrEqual(wasSentBefore(moment) ? 2 : 1);
      expect(runtimeBroker.agents.phases.get(SLUG)).toBe("stopped");
    },
  );
});

test.each(["create", "start"])(
  "owner killed in the middle of a %s that it was asked for itself: carried out once, by asking after it, and its trace tells",
  async (op) => {
    if (op === "start") expect((await api(entry, "POST", `/api/v1/agents/${agent}/stop`)).status).toBe(200);
    const path = op === "start" ? "/start" : "/agents";
    const before = received(path).length;
    runtimeBroker.holdAnswers();
    const asked =
      op === "start"
        ? api(owner, "POST", `/api/v1/agents/${agent}/start`)
        : api(owner, "POST", `/api/v1/projects/${project}/agents`, {
            name: "a2",
            task: "wait",
            runtimeBrokerId: runtimeBroker.id,
          });
    await runtimeBroker.onRequest.next((r) => r.path.endsWith(path));
    kill();
    await expect(asked).rejects.toThrow();
    runtimeBroker.releaseAnswers();
    const ended = () =>
      scene.database.query<{ id: string; state: string }>(
        "select id, state from broker_dispatch where op = $1 order by seq desc limit 1",
        [op],
      );
    const [row] = await eventually(async () => {
      const rows = await ended();
      expect(rows).toMatchObject([{ state: "done" }]);
      return rows;
    });
    const sent = received(path).slice(before);
    expect(sent.map((r) => Reflect.get(Object(r.json), "requestId"))).toEqual(
      op === "start" ? [undefined] : [row?.id, row?.id],
    );
    const trace = (await api(entry, "GET", `/api/v1/dispatches/${row?.id}`)).json as Trace;
    expect(trace.hops).toMatchObject([
      { event: "accepted", replica: { name: "owner" } },
      { event: "claimed", replica: { name: "owner" }, attempt: 1 },
      { event: "given_back", replica: { name: "owner" }, attempt: 1 },
      { event: "claimed", replica: { name: "entry" }, attempt: 2 },
      { event: "done", replica: { name: "entry" }, attempt: 2 },
    ]);
    const agents = await scene.database.query("select slug, phase from agents order by slug");
    const running = [
      { slug: SLUG, phase: "running" },
      { slug: "a2", phase: "running" },
    ];
    expect(agents).toEqual(op === "start" ? running.slice(0, 1) : running);
  },
);
