/** The sockets of runtime brokers: who holds them, what goes through them. */
export * from "./agentReport.ts";
export type { Connection } from "./connection.ts";
export * from "./heartbeatIntake.ts";
export * from "./options.ts";
export * from "./ownership.ts";
export * from "./refuseSocket.ts";
export * from "./registry.ts";
export * from "./socketProofs.ts";
export type { StreamEnd, StreamHandle, StreamHandler, StreamRequest } from "./streams.ts";
export type { TunnelRequest, TunnelResponse } from "./tunnel.ts";
export * from "./tunnelError.ts";
export * from "./upgrade.ts";
