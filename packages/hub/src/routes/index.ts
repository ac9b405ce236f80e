/** Routes per resource: parse, allow, act, reply. */
export * from "./access.ts";
export * from "./all.ts";
export * from "./route.ts";
