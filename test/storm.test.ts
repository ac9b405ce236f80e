import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { systemClock } from "@rootstock/service";
import {
  api,
  eventually,
  type ReplicaProcess,
  Scene,
  SimulatedRuntimeBroker,
  startReplicaProcess,
} from "@rootstock/testkit";

/** A row of the failure table: everybody who hung on one replica reconnects at once. The bench `storm` measures it. */

const HOW_MANY = 150;
/** Few enough that dials and calls would meet for them. */
const POOL_SIZE = "4";
/** Not a measure: a call that waited for a connection would end with 503 after 5 s. */
const CALL_WITHIN_MS = 15_000;

let scene: Scene;
beforeEach(async () => {
  scene = await Scene.create();
});
afterEach(() => scene.end(), 30_000);

const process = async (name: string): Promise<ReplicaProcess> => {
  const replica = await startReplicaProcess({
    databaseUrl: scene.database.url,
    name,
    env: { ROOTSTOCK_POOL_SIZE: POOL_SIZE },
  });
  scene.onEnd(async () => {
    replica.signal("SIGKILL");
    await replica.exited;
  });
  return replica;
};

test("the owner of many is killed: all are online again, and no call fails for lack of connections meanwhile", async () => {
  const owner = await process("owner");
  const survivors = [await process("second"), await process("third")] as const;
  const [entry, third] = survivors;
  const project = await scene.project(entry);
  const steady = await scene.runtimeBroker(third);
  const agent = await scene.agent(entry, project, "steady", steady.id);
  let home = owner.url;
  const many: SimulatedRuntimeBroker[] = [];
  for (let i = 0; i < HOW_MANY; i += 10)
    many.push(
      ...(await Promise.all(
        Array.from({ length: 10 }, async (_, n) => {
          const credentials = await scene.join(owner, `one-of-many-${i + n}`);
          const hubUrl = () => (home === owner.url ? home : (survivors[n % 2]?.url ?? ""));
          return new SimulatedRuntimeBroker({ hubUrl, credentials, firstRetryMs: 15 });
        }),
      )),
    );
  scene.onEnd(async () => void (await Promise.all(many.map((r) => r.stop()))));
  await Promise.all(many.map((r) => r.connect()));

  let storming = true;
  const failures: string[] = [];
  let sent = 0;
  const call = async (what: string, make: () => ReturnType<typeof api>): Promise<void> => {
    const began = systemClock.elapsed();
    const reply = await make().catch((err: unknown) => err);
    const ms = systemClock.elapsed() - began;
    const status = Reflect.get(Object(reply), "status");
    // 202: accepted, and not acknowledged within 2 s.
    if (![200, 202].includes(status) || ms > CALL_WITHIN_MS)
      failures.push(`${what}: ${status ?? reply} after ${Math.round(ms)} ms`);
  };
  const calls = survivors.flatMap((to) => [
    (async () => {
      while (storming) await call("list", () => api(to, "GET", `/api/v1/projects/${project}/agents`));
    })(),
    (async () => {
      for (; storming; sent += 1)
        await call("message", () =>
          api(to, "POST", `/api/v1/agents/${agent}/message`, { structured_message: { msg: `${sent}` } }),
        );
    })(),
  ]);

  home = "";
  owner.signal("SIGKILL");
  await Promise.all(many.map((r) => r.onSession.next()));
  await eventually(async () => {
    const rows = await scene.database.query(
      `select count(*)::int as online from runtime_brokers r join hub_replicas h on h.instance_id = r.connected_hub_id
        where r.status = 'online' and h.name <> 'owner'`,
    );
    expect(rows).toEqual([{ online: HOW_MANY + 1 }]);
  });
  storming = false;
  await Promise.all(calls);
  expect(failures).toEqual([]);
  await eventually(() => steady.delivered.length === sent);
  // Each came back once: nobody was sent away again.
  expect(many.map((r) => r.sessions.length).filter((n) => n !== 2)).toEqual([]);
});
