/** A replica of the hub. */
export { AGENT_TOKEN_HEADER, AgentTokens, REPLICA_TOKEN_HEADER, ReplicaTokens, SigningKeys } from "./auth/index.ts";
export * from "./config.ts";
export { legacyPath } from "./http/index.ts";
export { Hub } from "./hub.ts";
export { OlderReplicasError, rewrapStoredSecrets } from "./rewrap.ts";
export { type Does, doesName, type Route, type UpgradeRoute } from "./routes/index.ts";
export { type Resealed, SecretBox } from "./secrets/index.ts";
export { VERSION } from "./version.ts";
