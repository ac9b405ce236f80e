/**
 * PostgreSQL out of the package registry, for machines without one: the quick start's database and the tests'. Finds the
 * programs, chooses whom they run as, makes the data directory, and reads the state of a server. Starting, watching and
 * stopping the process is the caller's. Imports nothing of ours.
 */
export * from "./dataFolder.ts";
export * from "./programs.ts";
export type { UnixUser } from "./run.ts";
