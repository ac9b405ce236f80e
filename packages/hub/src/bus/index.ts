/** The change feed within a replica: one reader, events by subject, and positions from which anybody can read on. */
export * from "./changeFeed.ts";
export type { ReaderStats } from "./changeReader.ts";
export * from "./eventBus.ts";
export * from "./hubEvent.ts";
export type { Interest, Wanted } from "./interest.ts";
export * from "./position.ts";
export * from "./snapshot.ts";
export * from "./subjects.ts";
