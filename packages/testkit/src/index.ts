/** Support for tests: databases, replicas, simulated runtime brokers, faults. Imported by tests only. */
export * from "./embeddedPostgres.ts";
export * from "./testDatabase.ts";
