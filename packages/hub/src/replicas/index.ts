/** This replica among the others: its registration, its lease, and whether it may claim work. */
export * from "./membership.ts";
export * from "./releases.ts";
