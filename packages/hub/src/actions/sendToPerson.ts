import { HubError, notFound, type StructuredMessageInput, type Uuid } from "@rootstock/protocol";
import { type AgentView, userById } from "@rootstock/store";
import type { ActionCall, ActionDeps } from "./deps.ts";
import type { Answer } from "./idempotency.ts";
import { personMessage, personOf } from "./sendToMany.ts";

/** A message of an agent to a person: to the one it names, else to its owner (spec/02 2.11). Stored is delivered. */
export const sendToPerson = async (
  deps: ActionDeps,
  call: ActionCall,
  agent: AgentView,
  p: { readonly recipient: string | undefined; readonly message: StructuredMessageInput },
): Promise<Answer> => {
  const { db } = deps.database;
  const person = p.recipient ? await personOf(db, p.recipient.replace(/^user:/, "")) : await ownerOf(deps, agent);
  // Under one id, however often it has to be stored.
  const message = personMessage(deps, {
    projectId: agent.project_id,
    agentId: agent.id,
    sender: { name: `agent:${agent.slug}`, id: agent.id },
    person,
    message: p.message,
    groupId: p.message.metadata?.group_id ?? null,
    traceparent: call.traceparent,
  });
  const answer = await deps.idempotency.once(
    call,
    async (tx) => {
      if (!(await deps.courier.storeForPerson(tx, message))) throw notFound("Agent");
      return {
        status: 200,
        body: { message_id: message.id, status: "delivered", recipient: message.recipient, recipient_id: person.id },
      };
    },
    { repeatable: true },
  );
  deps.changed();
  return answer;
};

/** The person at the root of the agent: its owner, or whoever started the agent that started it. */
const ownerOf = async (deps: ActionDeps, agent: AgentView): Promise<{ id: Uuid; name: string }> => {
  for (const id of [agent.owner_id, ...agent.ancestry]) {
    const user = id ? await userById(deps.database.db, id) : undefined;
    if (user) return { id: user.id, name: user.email };
  }
  throw new HubError("validation_error", "the agent has no owner to write to; name a recipient", {
    details: { field: "recipient" },
  });
};
