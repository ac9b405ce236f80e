/** What is derived from the shared secrets, and what is kept sealed with it. */
export * from "./keys.ts";
export * from "./rootSecrets.ts";
export * from "./secretBox.ts";
