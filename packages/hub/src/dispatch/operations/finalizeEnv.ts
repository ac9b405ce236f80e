import { recordLaunched } from "@rootstock/store";
import { readCreateAnswer } from "./create.ts";
import { givenValues, UNREADABLE } from "./givenValues.ts";
import type { Operation } from "./operation.ts";
import { createPayload } from "./payloads.ts";
import { askForAgent, callRuntimeBroker, launchFacts, runtimeFailure } from "./tunnel.ts";

/**
 * Launches an agent whose environment was incomplete, with the values kept for it since. A runtime broker that has
 * forgotten the pending create (it keeps it for 24 hours) gets the whole create again.
 */
export const finalizeEnv: Operation = async (context) => {
  const { agent } = context.target;
  if (context.attempt > 1) {
    const facts = await askForAgent(context);
    if (facts?.phase === "running")
      return {
        ok: true,
        result: {},
        settle: async (tx) => void (await recordLaunched(tx, { agentId: agent.id, runId: agent.run_id, facts })),
      };
  }
  const given = await givenValues(context);
  if (given === "unreadable") return { ok: false, failure: UNREADABLE, settle: async () => {} };
  const answer = await callRuntimeBroker(context, {
    method: "POST",
    path: `/api/v1/agents/${agent.id}/finalize-env`,
    body: { env: given.kept },
  });
  if (answer.status === 200 || answer.status === 201) {
    const facts = launchFacts(answer.body, "running");
    return {
      ok: true,
      result: {},
      settle: async (tx) => void (await recordLaunched(tx, { agentId: agent.id, runId: agent.run_id, facts })),
    };
  }
  if (answer.status === 404) {
    const again = await callRuntimeBroker(context, {
      method: "POST",
      path: "/api/v1/agents",
      body: await createPayload(context, given, { requestId: context.id, gatherEnv: true }),
    });
    return readCreateAnswer(context, agent.run_id ?? context.id, again);
  }
  // The values stay kept and the agent stays provisioning: the same call may be repeated.
  return { ok: false, failure: runtimeFailure("finalize environment", answer), settle: async () => {} };
};
