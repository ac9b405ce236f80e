/** How much anybody may ask, counted by all replicas together. */
export * from "./deferredLimit.ts";
export * from "./exactCounts.ts";
export * from "./openStreams.ts";
export * from "./rateLimited.ts";
export * from "./rateLimits.ts";
export * from "./rules.ts";
export * from "./sharedLimit.ts";
