/** The HTTP face of a replica. */
export * from "./app.ts";
export * from "./server.ts";
