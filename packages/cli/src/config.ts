import type { Env } from "./flags.ts";

/** The environment of this process: the only place of this package that reads it. */
export const processEnv = (): Env => process.env;
