import { TEST_TOKEN } from "@rootstock/testkit";
import type { Bench } from "../bench.ts";
import { createAgents, joinMany, messageBody, messagePath, startReplica } from "../cluster.ts";
import { bareHubFloor, bareResponseFloor, storingHubFloor, webSocketFloor } from "../floors/bare.ts";
import { chainFloor, commitFloor, notifyFloor } from "../floors/chain.ts";
import { HttpLane } from "../httpLane.ts";
import { type Figure, timesFigures } from "../report.ts";
import { Samples, timed } from "../samples.ts";
import { startWorker } from "../worker.ts";

/** One thing to be timed, `perRound` times in each round. */
interface Timed {
  readonly name: string;
  readonly perRound: number;
  /** Not counted: brings things back to where they were. */
  readonly before?: () => Promise<unknown>;
  readonly once: () => Promise<unknown>;
}

/**
 * One call at a time: a message on the owner, a message and a stop through another replica, beside the floors. In
 * rounds of everything, so that a busy moment of the machine meets all alike.
 */
export const latency: Bench = async ({ server, nodeOptions, quick, say }) => {
  const database = await server.database();
  const options = { databaseUrl: database.url, ...(nodeOptions && { nodeOptions }) };
  const owner = await startReplica({ ...options, name: "owner" });
  const entry = await startReplica({ ...options, name: "entry" });
  const peers = await startWorker("runtimeBrokers.ts");
  const credentials = await joinMany(owner, 1);
  await peers.call(
    "dial",
    credentials.map((c) => ({ ...c, urls: [owner.url] })),
  );
  const ids = credentials.map((c) => c.brokerId);
  const [agent, stopped] = await createAgents(database, owner, ids, 2);
  if (!agent || !stopped) throw new Error("no agents");
  const [here, there] = [await HttpLane.open(owner.url, TEST_TOKEN), await HttpLane.open(entry.url, TEST_TOKEN)];
  const floors = [
    await bareResponseFloor(),
    await commitFloor(database.url),
    await notifyFloor(database.url),
    await webSocketFloor(),
    await bareHubFloor(),
    await storingHubFloor(database.url),
    await chainFloor(database.url),
  ];

  let n = 0;
  const send = async (lane: HttpLane) => {
    n += 1;
    const { status, body } = await lane.request("POST", messagePath(agent), messageBody(`one:${agent.slug}:${n}`));
    if (status !== 200) throw new Error(`a message got ${status}: ${body}`);
  };
  const stop = async () => {
    const { status, body } = await there.request("POST", `/api/v1/agents/${stopped.id}/stop`);
    if (status !== 200) throw new Error(`a stop got ${status}: ${body}`);
  };
  const restart = () => database.query("update agents set phase = 'running' where id = $1", [stopped.id]);
  const all: readonly Timed[] = [
    ...floors.map((f) => ({ name: f.name, perRound: 50, once: () => f.once() })),
    { name: "local message", perRound: 50, once: () => send(here) },
    { name: "forwarded message", perRound: 50, once: () => send(there) },
    { name: "forwarded stop", perRound: 20, before: restart, once: stop },
  ];
  const run = async (t: Timed, samples: Samples) => {
    for (let i = 0; i < t.perRound; i += 1) {
      await t.before?.();
      samples.add(await timed(t.once));
    }
  };
  say("warming up");
  for (let round = 0; round < (quick ? 2 : 12); round += 1) for (const t of all) await run(t, new Samples());
  const results = new Map(all.map((t) => [t.name, new Samples()]));
  const rounds = quick ? 4 : 40;
  for (let round = 1; round <= rounds; round += 1) {
    for (const t of all) await run(t, results.get(t.name) ?? new Samples());
    if (round % 10 === 0) say(`round ${round} of ${rounds}`);
  }

  here.close();
  there.close();
  for (const floor of floors) await floor.close();
  await peers.stop();
  await entry.stop();
  await owner.stop();
  await database.drop();
  return figures(results);
};

const FLOORS = ["bare response", "commit", "notify hop", "websocket echo", "bare hub", "bare hub that stores", "chain"];

const figures = (results: ReadonlyMap<string, Samples>): Figure[] => {
  const of = (name: string) => results.get(name) ?? new Samples();
  const bench = "latency";
  const local = { name: "(bare hub + commit)", value: of("bare hub").p50 + of("commit").p50 };
  const chain = { name: "chain p50", value: of("chain").p50 };
  const forwarded = { against: chain, p50Factor: 2, p99Factor: 5 };
  return [
    ...FLOORS.flatMap((name) => timesFigures(bench, `floor: ${name}`, of(name))),
    ...timesFigures(bench, "local message", of("local message"), { against: local, p50Factor: 1.5 }),
    ...timesFigures(bench, "forwarded message", of("forwarded message"), forwarded),
    ...timesFigures(bench, "forwarded stop", of("forwarded stop"), forwarded),
  ];
};
