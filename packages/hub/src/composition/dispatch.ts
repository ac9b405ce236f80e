import type { Base, Service } from "@rootstock/service";
import type { HubConfig } from "../config.ts";
import {
  AgentLocks,
  agentTokenMinter,
  Courier,
  Dispatcher,
  Executor,
  HaltsAtOwner,
  keptValueReader,
  type MintAgentToken,
  Reconciler,
} from "../dispatch/index.ts";
import type { Metrics } from "../metrics/index.ts";
import { PeerCalls } from "../sockets/index.ts";
import type { Control } from "./control.ts";
import type { Foundation } from "./foundation.ts";

/** From an accepted call to the runtime broker. */
export interface Dispatch {
  readonly executor: Executor;
  readonly dispatcher: Dispatcher;
  readonly courier: Courier;
  readonly reconciler: Reconciler;
  readonly mintAgentToken: MintAgentToken;
  readonly stages: readonly (readonly Service[])[];
}

/** Builds what carries out operations and delivers messages. */
export const buildDispatch = (
  config: HubConfig,
  base: Base,
  metrics: Metrics,
  f: Foundation,
  { registry }: Control,
): Dispatch => {
  const { database, membership, commandBus, eventBus, signaller, tracing } = f;
  const locks = new AgentLocks();
  const changed = () => signaller.changedUnhurried();
  const mintAgentToken = agentTokenMinter(f.agentTokens, { development: config.developmentToken !== undefined });
  const executor = new Executor(base, {
    db: database.db,
    database,
    clock: base.clock,
    random: base.random,
    metrics,
    tracing,
    instanceId: membership.instanceId,
    mintAgentToken,
    transportToken: async () => f.transportTokens?.current(),
    keptValues: keptValueReader(database.db, f.box),
    configValues: (agent) => f.agentConfigs.of(agent),
    changed,
  });
  const shared = { database, registry, membership, commandBus, locks, metrics, tracing, changed };
  const peerCalls =
    config.streamRelay === "postgres" ? undefined : new PeerCalls(base, { db: database.db, tokens: f.replicaTokens });
  const dispatcher = new Dispatcher(base, {
    ...shared,
    eventBus,
    executor,
    haltsAtOwner: peerCalls && new HaltsAtOwner(peerCalls),
    ended: (id, more) => reconciler.operationEnded(id, more),
  });
  const courier: Courier = new Courier(base, { ...shared, reconciler: () => reconciler });
  const reconciler = new Reconciler(base, {
    ...shared,
    executor,
    announceMessage: (outcome) => courier.announce(outcome),
  });
  const stages = [[...(peerCalls ? [peerCalls] : [])], [dispatcher, courier, reconciler]];
  return { executor, dispatcher, courier, reconciler, mintAgentToken, stages };
};
