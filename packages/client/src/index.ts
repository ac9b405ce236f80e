/** A typed client of the hub's HTTP interface: what the command line and the tests need, over the platform's `fetch`. */
export * from "./client.ts";
export * from "./errors.ts";
export type { EventOptions, HubEvent } from "./events.ts";
export type { FollowOptions } from "./followLogs.ts";
export { Http, type HttpOptions, type RequestOptions, type RetryOptions, type TokenSource } from "./http.ts";
export * from "./resources/access.ts";
export * from "./resources/agents.ts";
export * from "./resources/groups.ts";
export * from "./resources/login.ts";
export * from "./resources/policies.ts";
export * from "./resources/projects.ts";
export * from "./resources/runtimeBrokers.ts";
export * from "./resources/system.ts";
export * from "./resources/traces.ts";
export * from "./resources/users.ts";
