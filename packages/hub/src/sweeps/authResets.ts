import { type ResetDeps, workOffAuthResets } from "../actions/index.ts";
import type { Sweep } from "./sweeper.ts";

/** How soon work begins that somebody waits for, in milliseconds. */
const INTERVAL_MS = 2_000;

/** Gives new tokens to all agents that wait for one. */
export const authResets = (deps: ResetDeps): Sweep => ({
  name: "authResets",
  intervalMs: INTERVAL_MS,
  runOnce: (signal) => workOffAuthResets(deps, signal),
});
