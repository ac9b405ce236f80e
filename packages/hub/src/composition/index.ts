/** How the parts of a replica are put together, in dependency order. */
export * from "./control.ts";
export * from "./dispatch.ts";
export * from "./foundation.ts";
export * from "./observe.ts";
export * from "./rights.ts";
export * from "./streams.ts";
export * from "./webSockets.ts";
