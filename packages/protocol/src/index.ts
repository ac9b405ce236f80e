/** The wire between clients, hub and runtime brokers: ids, errors, frames, signatures, shapes. Imports nothing of ours. */
export * from "./agents.ts";
export * from "./errors.ts";
export * from "./frames.ts";
export * from "./ids.ts";
export * from "./logPlace.ts";
export * from "./messages.ts";
export * from "./signature.ts";
export * from "./slug.ts";
export * from "./text.ts";
export * from "./textHash.ts";
export * from "./trace.ts";
export * from "./traceparent.ts";
