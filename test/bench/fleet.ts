import { TEST_TOKEN } from "@rootstock/testkit";
import {
  type BenchAgent,
  type BenchDatabase,
  type BenchServer,
  createAgents,
  joinMany,
  messageBody,
  messagePath,
  type ReplicaProcess,
  startReplica,
} from "./cluster.ts";
import { HttpLane } from "./httpLane.ts";
import type { Lane } from "./load.ts";
import type { Dialled } from "./processes/runtimeBrokers.ts";
import { startWorker, type Worker } from "./worker.ts";

export interface FleetOptions {
  readonly server: BenchServer;
  readonly nodeOptions?: string | undefined;
  readonly replicas: number;
  readonly runtimeBrokers: number;
  readonly agentsEach: number;
  /** More settings of the replica with this number. */
  readonly env?: (replica: number) => Readonly<Record<string, string>>;
}

/** Replicas on a database of their own, with runtime brokers spread over them and agents that take messages. */
export interface Fleet {
  readonly database: BenchDatabase;
  readonly replicas: readonly ReplicaProcess[];
  /** The process of all runtime brokers. */
  readonly peers: Worker;
  readonly agents: readonly BenchAgent[];
  /** The runtime brokers, as the process of all of them knows them. */
  readonly dialled: readonly Dialled[];
  /** The agents whose runtime broker hangs on another replica than this. */
  agentsElsewhere(replica: number): readonly BenchAgent[];
  /** The agents whose runtime broker hangs on this replica. */
  agentsAt(replica: number): readonly BenchAgent[];
  /** Senders that take one agent of another replica after the other; `sent` keeps each text that was accepted. */
  senders(count: number, onSent: (text: string) => void): Promise<readonly Lane[]>;
  stop(): Promise<void>;
}

export const startFleet = async (options: FleetOptions): Promise<Fleet> => {
  const database = await options.server.database();
  const replicas = await Promise.all(
    Array.from({ length: options.replicas }, (_, i) =>
      startReplica({
        databaseUrl: database.url,
        name: `replica-${i}`,
        ...(options.nodeOptions && { nodeOptions: options.nodeOptions }),
        ...(options.env && { env: options.env(i) }),
      }),
    ),
  );
  const [first] = replicas;
  if (!first) throw new Error("no replica");
  const peers = await startWorker("runtimeBrokers.ts");
  const credentials = await joinMany(first, options.runtimeBrokers);
  const home = (i: number) => i % replicas.length;
  const dialled = credentials.map((c, i): Dialled => ({ ...c, urls: [replicas[home(i)]?.url ?? ""] }));
  await peers.call("dial", dialled);
  const owners = new Map(credentials.map((c, i) => [c.brokerId, home(i)]));
  const agents = await createAgents(database, first, [...owners.keys()], options.agentsEach);
  const agentsElsewhere = (replica: number) => agents.filter((a) => owners.get(a.runtimeBrokerId) !== replica);
  const lanes: HttpLane[] = [];
  let senders = 0;
  return {
    database,
    replicas,
    peers,
    agents,
    dialled,
    agentsElsewhere,
    agentsAt: (replica) => agents.filter((a) => owners.get(a.runtimeBrokerId) === replica),
    senders: (count, onSent) => {
      const numbered = senders;
      senders += count;
      return Promise.all(
        Array.from({ length: count }, async (_, i) => {
          const id = numbered + i;
          const entry = id % replicas.length;
          const lane = await HttpLane.open(replicas[entry]?.url ?? "", TEST_TOKEN);
          lanes.push(lane);
          return sender(lane, id, agentsElsewhere(entry), onSent);
        }),
      );
    },
    stop: async () => {
      for (const lane of lanes) lane.close();
      await peers.stop();
      for (const replica of replicas) await replica.stop();
      await database.drop();
    },
  };
};

/** A sender that takes one agent after the other; each call's message is numbered per sender and agent. */
const sender = (lane: HttpLane, id: number, agents: readonly BenchAgent[], onSent: (text: string) => void): Lane => {
  const numbers = new Map<string, number>();
  // Senders start at different agents and take steps of different length, or they would march in line.
  let at = id * 37;
  return async () => {
    at += 1 + (id % 7);
    const agent = agents[at % agents.length];
    if (!agent) throw new Error("no agent");
    const n = (numbers.get(agent.id) ?? 0) + 1;
    numbers.set(agent.id, n);
    const text = `${id}:${agent.slug}:${n}`;
    const { status } = await lane.request("POST", messagePath(agent), messageBody(text));
    if (status === 200 || status === 202) onSent(text);
    return { status };
  };
};
