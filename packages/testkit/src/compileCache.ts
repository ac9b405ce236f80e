import { join } from "node:path";
import { fileURLToPath } from "node:url";

const CHECKOUT = fileURLToPath(new URL("../../..", import.meta.url));

/** Where Node keeps what it has compiled, for the processes that tests start: half the work of a start, of hundreds of starts. */
export const compileCache: Readonly<Record<string, string>> = {
  NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE ?? join(CHECKOUT, "node_modules", ".cache", "rootstock-compiled"),
};
