/** Who calls, and what they may do. */
export * from "./principal.ts";
