/** What a replica counts. */
export * from "./metrics.ts";
