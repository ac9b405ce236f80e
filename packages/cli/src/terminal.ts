import type { Base } from "@rootstock/service";
import type { Env } from "./flags.ts";

/** What a command has to do with the outside. */
export interface Terminal {
  readonly env: Env;
  readonly base: Base;
  /** Results: a line, or several, on standard output. */
  readonly out: (text: string) => void;
  /** News and complaints: a line on standard error. */
  readonly err: (text: string) => void;
}
