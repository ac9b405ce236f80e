import type { StructuredMessageInput, Uuid } from "@rootstock/protocol";
import { notFound } from "@rootstock/protocol";
import { targetById } from "@rootstock/store";
import { admitMessage } from "../dispatch/index.ts";
import type { ActionDeps } from "./deps.ts";
import { newMessage } from "./sendMessage.ts";

/** A message that a runtime broker's plugin brought in from a chat (spec/01 1.8). */
export interface Inbound {
  readonly agentId: Uuid;
  readonly message: StructuredMessageInput;
  /** What the plugin calls itself. */
  readonly plugin: string | undefined;
}

/**
 * Stores a message from outside and sees it on its way, by the path of every other message. The sender is whoever the
 * plugin says: only it knows the chat's people. Throws as {@link admitMessage} does.
 */
export const acceptInbound = async (deps: ActionDeps, inbound: Inbound): Promise<{ readonly delivered: boolean }> => {
  const target = await targetById(deps.database.db, inbound.agentId);
  if (!target) throw notFound("Agent");
  const { holdReason } = admitMessage(target, { queue: false, now: deps.base.clock.now() });
  const message = newMessage(deps, {
    target,
    sender: { name: inbound.message.sender || `plugin:${inbound.plugin ?? "unknown"}`, id: null },
    input: inbound.message,
    interrupt: false,
    holdReason,
  });
  const posted = await deps.courier.post(message, target);
  return { delivered: (await posted.outcome).state === "delivered" };
};
