/** A verb each, for routes and sweeps alike. */
export { acceptInbound, type Inbound } from "./acceptInbound.ts";
export { type CreateAgentRequest, createAgentSchema } from "./agentConfig.ts";
export * from "./changeLifecycle.ts";
export * from "./createAgent.ts";
export * from "./deleteAgent.ts";
export * from "./deleteProjectAgents.ts";
export { type ActionCall, type ActionDeps, targetResource } from "./deps.ts";
export * from "./finishers.ts";
export * from "./idempotency.ts";
export { pluginNameOf } from "./outsideSender.ts";
export * from "./resetAllAuth.ts";
export * from "./resetAuth.ts";
export * from "./sendMessage.ts";
export * from "./sendToMany.ts";
export * from "./sendToPerson.ts";
export * from "./stopAll.ts";
export * from "./submitEnv.ts";
