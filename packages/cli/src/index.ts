/** The command line `rootstock`. Nothing imports it but its own bin. */
export { run } from "./run.ts";
