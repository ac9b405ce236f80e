import type { DispatchOp } from "@rootstock/store";
import { create } from "./create.ts";
import { finalizeEnv } from "./finalizeEnv.ts";
import { restart, stop, suspend } from "./halt.ts";
import type { NamedOperation, Operation } from "./operation.ts";
import { checkPrompt } from "./prompt.ts";
import { remove } from "./remove.ts";
import { resetAuth } from "./resetAuth.ts";
import { start } from "./start.ts";

export * from "./operation.ts";
export { gone } from "./run.ts";

type HaltOp = "stop" | "suspend";

/** What ends a run needs names alone. */
export const HALTS: Readonly<Record<HaltOp, NamedOperation>> = { stop, suspend };

export const isHalt = (op: DispatchOp): op is HaltOp => op in HALTS;

/** What each kind of intent does at the runtime broker, but for those of {@link HALTS}. */
export const OPERATIONS: Readonly<Record<Exclude<DispatchOp, HaltOp>, Operation>> = {
  create,
  start,
  resume: start,
  restart,
  delete: remove,
  check_prompt: checkPrompt,
  finalize_env: finalizeEnv,
  reset_auth: resetAuth,
};
