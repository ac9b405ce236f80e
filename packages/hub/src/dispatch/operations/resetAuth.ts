import { confirmTokenVersion, reserveTokenVersion } from "@rootstock/store";
import type { Operation } from "./operation.ts";
import { gone } from "./run.ts";
import { agentPath, callRuntimeBroker, projectQuery, runtimeFailure } from "./tunnel.ts";

/**
 * Gives the agent a new token in its container, and voids all before it once the runtime broker has confirmed (spec/03
 * 6.8). The new one counts before that: the agent may use it before the confirmation is here. An attempt that nobody knows
 * the end of leaves old and new ones good; the next one that is confirmed voids both.
 */
export const resetAuth: Operation = async (context) => {
  const { target } = context;
  const version = await reserveTokenVersion(context.db, target.agent.id);
  if (version === undefined) return gone();
  const token = await context.mintAgentToken({ ...target, agent: { ...target.agent, token_version: version } });
  const answer = await callRuntimeBroker(context, {
    method: "POST",
    path: agentPath(context, "reset-auth"),
    query: projectQuery(context),
    body: { token },
  });
  if (answer.status < 200 || answer.status >= 300)
    return { ok: false, failure: runtimeFailure("reset authentication", answer), settle: async () => {} };
  return { ok: true, result: {}, settle: (tx) => confirmTokenVersion(tx, target.agent.id, version) };
};
