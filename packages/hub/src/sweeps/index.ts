/** Periodic work that exactly one replica does per tick (design section 7). */
export * from "./authResets.ts";
export * from "./replicaReaper.ts";
export * from "./standardSweeps.ts";
export * from "./sweeper.ts";
