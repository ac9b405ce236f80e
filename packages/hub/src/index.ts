/** A replica of the hub. */
export {
  AccessFacts,
  AGENT_TOKEN_HEADER,
  AgentTokens,
  decisionOn,
  type Principal,
  REPLICA_TOKEN_HEADER,
  ReplicaTokens,
  SigningKeys,
} from "./auth/index.ts";
export * from "./config.ts";
export { type InspectReply, legacyPath } from "./http/index.ts";
export { Hub } from "./hub.ts";
export { OlderReplicasError, type Rewrapped, rewrapStoredSecrets } from "./rewrap.ts";
export {
  answersOf,
  contentTypesOf,
  type DeclaredAnswer,
  type Does,
  doesName,
  EVENT_SUBJECTS,
  isDecided,
  jsonShapeOf,
  openApiDocument,
  type Route,
  selfContained,
  type UpgradeRoute,
} from "./routes/index.ts";
export { type Resealed, SecretBox } from "./secrets/index.ts";
export { VERSION } from "./version.ts";
