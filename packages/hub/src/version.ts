import { readFileSync } from "node:fs";

/** This release, from the package's own description. */
export const VERSION: string = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")).version;
