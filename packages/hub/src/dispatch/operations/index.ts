import type { DispatchOp } from "@rootstock/store";
import { create } from "./create.ts";
import { finalizeEnv } from "./finalizeEnv.ts";
import { restart, stop, suspend } from "./halt.ts";
import type { Operation } from "./operation.ts";
import { checkPrompt } from "./prompt.ts";
import { remove } from "./remove.ts";
import { start } from "./start.ts";

export * from "./operation.ts";

/** What each kind of intent does at the runtime broker. */
export const OPERATIONS: Readonly<Record<DispatchOp, Operation>> = {
  create,
  start,
  resume: start,
  stop,
  suspend,
  restart,
  delete: remove,
  check_prompt: checkPrompt,
  finalize_env: finalizeEnv,
};
