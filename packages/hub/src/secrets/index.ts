/** What is derived from the shared secrets, and what is kept sealed with it. */
export * from "./agentConfigs.ts";
export * from "./errors.ts";
export { checkKeyFile, KeyFileError } from "./fileKeys.ts";
export * from "./keyKeepers.ts";
export type { KeyManagement, WrappedKey } from "./keyManagement.ts";
export * from "./keys.ts";
export * from "./reseal.ts";
export * from "./rootSecrets.ts";
export * from "./secretBox.ts";
