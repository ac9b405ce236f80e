/** A runtime broker at the level of the protocol. */
export * from "./join.ts";
export * from "./options.ts";
export * from "./simulatedRuntimeBroker.ts";
