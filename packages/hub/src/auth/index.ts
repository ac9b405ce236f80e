/** Who calls, and what they may do. */
export * from "./accessTokens.ts";
export * from "./assertions.ts";
export * from "./authenticator.ts";
export type { Credentials } from "./credentials.ts";
export * from "./developmentUser.ts";
export * from "./jwt.ts";
export * from "./policy.ts";
export * from "./principal.ts";
export * from "./proxyLogin.ts";
export * from "./replicaTokens.ts";
export * from "./runtimeBrokerSecrets.ts";
export * from "./runtimeBrokerSignature.ts";
export * from "./signIns.ts";
export * from "./signingKeys.ts";
export * from "./tokens.ts";
export * from "./userTokens.ts";
