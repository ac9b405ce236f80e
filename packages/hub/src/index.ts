/** A replica of the hub. */
export * from "./config.ts";
export { Hub } from "./hub.ts";
export { VERSION } from "./version.ts";
