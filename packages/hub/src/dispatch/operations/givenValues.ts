import { isDeepStrictEqual } from "node:util";
import type { ConfigValues } from "@rootstock/store";
import { SecretBoxError } from "../../secrets/index.ts";
import type { OperationContext, OperationFailure } from "./operation.ts";

/** What is kept sealed of what a container is given. */
export interface GivenValues {
  readonly config: ConfigValues;
  /** Gathered from a person's environment. */
  readonly kept: Readonly<Record<string, string>>;
}

/** What is told where sealed values of an agent cannot be opened. */
export const UNREADABLE: OperationFailure = {
  code: "invalid_state",
  message:
    "what is kept for the agent's environment cannot be decrypted with this hub's keys (ROOTSTOCK_SECRET, ROOTSTOCK_KMS): bring the former key back, or give the agent its configuration and values anew",
};

/** Opens it, before anything is asked of the runtime broker: an agent without its environment is none that was asked for. */
export const givenValues = async (context: OperationContext): Promise<GivenValues | "unreadable"> => {
  const { agent } = context.target;
  try {
    const [config, kept] = await Promise.all([context.configValues(agent), context.keptValues(agent.id)]);
    return { config, kept };
  } catch (err) {
    if (err instanceof SecretBoxError) return "unreadable";
    throw err;
  }
};

/**
 * The same for the run that was opened since: a configuration that was changed in between is given whole, and from then on
 * none changes.
 */
export const givenToRun = async (
  context: OperationContext,
  started: OperationContext,
  given: GivenValues,
): Promise<GivenValues | "unreadable"> =>
  isDeepStrictEqual(started.target.agent.applied_config, context.target.agent.applied_config)
    ? given
    : givenValues(started);
