import type { InProcessReplica, SimulatedRuntimeBroker } from "@rootstock/testkit";
import type { World } from "../matrix/world.ts";

/**
 * The runtime brokers of a world as their machines run them: connected, dialling again whenever they lose their session,
 * doing all that is asked of the agents that are theirs.
 */
export interface Machines {
  /** What was answered to somebody: a rotated secret is that machine's from then on. */
  heard(target: string, status: number, body: string): void;
  /** The present secret of a runtime broker, standard base64. */
  secretOf(brokerId: string): string;
  /** Tells the runtime broker of an agent that it runs it. */
  runs(brokerId: string, slug: string, phase: string): void;
}

interface Machine {
  readonly kept: { readonly brokerId: string; secretKey: string };
  readonly runtimeBroker: SimulatedRuntimeBroker;
}

const ROTATED = /\/brokers\/([0-9a-f-]{36})\/rotate-secret/i;
const LINE = Buffer.from("a line of the log\n").toString("base64");

/** Connects all runtime brokers of the world, each to another replica than the one before. */
export const connectMachines = async (world: World, replicas: readonly InProcessReplica[]): Promise<Machines> => {
  const machines = new Map<string, Machine>();
  for (const [i, credentials] of Object.values(world.runtimeBrokers).entries()) {
    const replica = replicas[i % replicas.length] ?? world.replica;
    const kept = { ...credentials };
    const runtimeBroker = await world.scene.connect(replica, kept);
    runtimeBroker.onFrame.on(({ type, streamId }) => {
      if (type === "stream_open") runtimeBroker.sendFrame({ type: "stream", streamId, data: LINE });
    });
    machines.set(kept.brokerId, { kept, runtimeBroker });
  }
  const of = (brokerId: string): Machine => {
    const machine = machines.get(brokerId);
    if (!machine) throw new Error(`no machine ${brokerId}`);
    return machine;
  };
  return {
    heard: (target, status, body) => {
      const [, brokerId = ""] = ROTATED.exec(target) ?? [];
      const machine = status === 200 ? machines.get(brokerId.toLowerCase()) : undefined;
      if (!machine) return;
      const { secretKey } = JSON.parse(body) as { readonly secretKey?: string };
      if (!secretKey) return;
      machine.kept.secretKey = secretKey;
      const { runtimeBroker } = machine;
      runtimeBroker.verifyingKeys = [secretKey, ...runtimeBroker.verifyingKeys];
    },
    secretOf: (brokerId) => of(brokerId).kept.secretKey,
    runs: (brokerId, slug, phase) => void of(brokerId).runtimeBroker.agents.phases.set(slug, phase),
  };
};
