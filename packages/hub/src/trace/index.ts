/** Where is my message: the trace of a message or an operation, told from what the database knows of it. */
export * from "./dispatchTrace.ts";
export * from "./limits.ts";
export * from "./messageTrace.ts";
