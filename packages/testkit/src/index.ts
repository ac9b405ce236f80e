/** Support for tests: databases, replicas, simulated runtime brokers, faults. Imported by tests only. */

export * from "./api.ts";
export * from "./embeddedPostgres.ts";
export * from "./eventStream.ts";
export * from "./eventually.ts";
export * from "./freePort.ts";
export * from "./identityProvider.ts";
export * from "./logClient.ts";
export * from "./past.ts";
export * from "./pgBouncer.ts";
export * from "./replicas.ts";
export * from "./runRecord.ts";
export * from "./samples.ts";
export * from "./scene.ts";
export * from "./seed.ts";
export * from "./simulatedAgents.ts";
export * from "./simulatedRuntimeBroker/index.ts";
export * from "./simulatedTerminal.ts";
export * from "./spanCollector.ts";
export * from "./storeStack.ts";
export * from "./terminalClient.ts";
export * from "./testDatabase.ts";
export * from "./testLogin.ts";
export * from "./transactionPooler.ts";
