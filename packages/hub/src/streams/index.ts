/** Calls and streams that reach a runtime broker from any replica (design section 8). */
export * from "./relay.ts";
