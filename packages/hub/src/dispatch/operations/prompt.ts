import { z } from "zod";
import type { Operation } from "./operation.ts";
import { agentPath, callRuntimeBroker, projectQuery, runtimeFailure } from "./tunnel.ts";

const promptAnswer = z.object({ hasPrompt: z.boolean() });

/** Asks whether the agent has a prompt on disk. With GET: the original hub's POST always gets 405 (spec/01 rule 7). */
export const checkPrompt: Operation = async (context) => {
  const answer = await callRuntimeBroker(context, {
    method: "GET",
    path: agentPath(context, "has-prompt"),
    query: projectQuery(context),
  });
  const parsed = promptAnswer.safeParse(answer.body);
  if (answer.status !== 200 || !parsed.success)
    return { ok: false, failure: runtimeFailure("check the prompt", answer), settle: async () => {} };
  return { ok: true, result: parsed.data, settle: async () => {} };
};
