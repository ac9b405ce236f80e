/** A replica of the hub. */
export { AGENT_TOKEN_HEADER, AgentTokens, REPLICA_TOKEN_HEADER, ReplicaTokens, SecretBox } from "./auth/index.ts";
export * from "./config.ts";
export { Hub } from "./hub.ts";
export type { Route } from "./routes/index.ts";
export { VERSION } from "./version.ts";
