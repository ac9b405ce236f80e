/** The HTTP face of a replica. */

export * from "./app.ts";
export * from "./cors.ts";
export { toHubError } from "./errors.ts";
export * from "./server.ts";
