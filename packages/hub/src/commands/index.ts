/** Which replica should look at what: signals in and out, and the poll that makes up for lost ones. */
export * from "./commandBus.ts";
