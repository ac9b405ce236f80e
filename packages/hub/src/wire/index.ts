/** Rows as the JSON that clients know: pure mappings, and the types of what goes over the wire. */
export * from "./agent.ts";
export * from "./capabilities.ts";
export * from "./cursor.ts";
export * from "./fields.ts";
export * from "./group.ts";
export * from "./message.ts";
export * from "./policy.ts";
export * from "./project.ts";
export * from "./runtimeBroker.ts";
export * from "./schemas.ts";
export * from "./subscription.ts";
export * from "./trace.ts";
export * from "./user.ts";
