/** From an accepted call to the runtime broker: dispatcher, courier, reconciler (design section 5). */
export * from "./agentLocks.ts";
export * from "./courier.ts";
export * from "./dispatcher.ts";
export * from "./executor.ts";
export * from "./haltsAtOwner.ts";
export * from "./messageGate.ts";
export type { KeptValues, MintAgentToken, OperationFailure } from "./operations/index.ts";
export * from "./pause.ts";
export * from "./reachability.ts";
export * from "./reconciler.ts";
export * from "./secrets.ts";
export { StaleTarget, type TargetLookup } from "./targets.ts";
export * from "./untilCertain.ts";
