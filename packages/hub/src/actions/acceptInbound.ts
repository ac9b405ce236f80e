import { createHash } from "node:crypto";
import { HubError, notFound, type StructuredMessageInput, type Uuid } from "@rootstock/protocol";
import { type Db, type DispatchTarget, type MessageOutcome, type NewMessage, targetById } from "@rootstock/store";
import { z } from "zod";
import { admitMessage } from "../dispatch/index.ts";
import type { ActionDeps } from "./deps.ts";
import type { Answer, KeyedCall } from "./idempotency.ts";
import { outsideName, outsideRecipients } from "./outsideSender.ts";
import { newMessage } from "./sendMessage.ts";

/** A message that a runtime broker's plugin brought in from a chat (spec/01 1.8). */
export interface Inbound {
  readonly runtimeBrokerId: Uuid;
  readonly agentId: Uuid;
  readonly message: StructuredMessageInput;
  /** What the plugin calls itself, checked: every name of the message's sender begins with it. */
  readonly plugin: string;
}

/** A committed message from outside, as it is kept beside an idempotency key. */
export const inboundOperation = z.object({ messageId: z.string(), agentId: z.string(), held: z.boolean() });
type InboundOperation = z.infer<typeof inboundOperation>;

type InboundCall = KeyedCall & { hungUp(): boolean };

/**
 * Stores a message from outside and sees it on its way, by the path of every other message. Its sender is whom the plugin
 * names, as somebody of the plugin's: nobody of this hub. A message that carries its id outside and comes again is
 * answered as at first, and not stored again. Answers 200 once the runtime broker has acknowledged it, else 202. Throws as
 * {@link admitMessage} does, and 502 `runtime_error` for a message that could not be delivered.
 */
export const acceptInbound = (deps: ActionDeps, asked: InboundCall, inbound: Inbound): Promise<Answer> => {
  const key = deps.idempotency.isKeyed(asked) ? undefined : keyOf(asked, inbound);
  if (key === undefined) return accept(deps, asked, inbound);
  const headers = new Headers(asked.headers);
  headers.set("idempotency-key", key);
  const { principal, method, path, rawBody, traceparent } = asked;
  const call = { principal, method, path, rawBody, traceparent, headers, hungUp: () => asked.hungUp() };
  return deps.idempotency.answer(
    call,
    () => accept(deps, call, inbound),
    (answer) => answer,
  );
};

const accept = async (deps: ActionDeps, call: InboundCall, inbound: Inbound): Promise<Answer> => {
  const target = await targetById(deps.database.db, inbound.agentId);
  if (!target) throw notFound("Agent");
  const { holdReason } = admitMessage(target, { queue: false, now: deps.base.clock.now() });
  const message = outsideMessage(deps, { ...inbound, target, holdReason, traceparent: call.traceparent });
  if (!deps.idempotency.isKeyed(call)) {
    const posted = await deps.courier.post(message, target);
    return answerOf(inbound.agentId, await posted.outcome);
  }
  const begin = async (tx: Db): Promise<InboundOperation> => {
    if ((await deps.courier.store(tx, [message])).length > 0) throw notFound("Agent");
    return { messageId: message.id, agentId: inbound.agentId, held: holdReason !== null };
  };
  return deps.idempotency.run(call, { kind: "inbound", begin, begun: () => deps.courier.posted([message]) });
};

/** Tells where a committed message from outside stands. */
export const finishInbound = async (deps: ActionDeps, op: InboundOperation): Promise<Answer> =>
  op.held ? LATER : answerOf(op.agentId, await deps.courier.outcome(op.messageId));

const LATER: Answer = { status: 202, body: null };

const answerOf = (agentId: Uuid, outcome: MessageOutcome): Answer => {
  if (outcome.state === "delivered") return { status: 200, body: { delivered: true, agentId } };
  if (outcome.state !== "failed") return LATER;
  throw new HubError("runtime_error", `the message could not be delivered: ${outcome.error ?? "unknown reason"}`, {
    details: { message_id: outcome.id },
  });
};

const outsideMessage = (
  deps: ActionDeps,
  p: Inbound & {
    readonly target: DispatchTarget;
    readonly holdReason: string | null;
    readonly traceparent: string | undefined;
  },
): NewMessage => {
  const { message, plugin } = p;
  const name = outsideName(plugin, message.sender) ?? `${plugin}:unknown`;
  const groupId = outsideName(plugin, message.metadata?.group_id);
  return newMessage(deps, {
    target: p.target,
    sender: {
      name,
      id: null,
      outsideId: outsideName(plugin, message.sender_id),
      runtimeBrokerId: p.runtimeBrokerId,
    },
    input: {
      ...message,
      recipients: outsideRecipients(name, message),
      ...(groupId !== undefined && { metadata: { ...message.metadata, group_id: groupId } }),
    },
    interrupt: false,
    holdReason: p.holdReason,
    traceparent: p.traceparent,
  });
};

/** An id that the message has in its chat, as the plugins of Scion give it; what it answers to has another. */
const OWN_ID = /^(?!.*reply)(?:.*_)?message_id$/;

/**
 * The idempotency key of a message that says which one of its chat it is. A plugin that reads its chat again after a crash
 * repeats the body as it was; the same id with another text is another message, edited since.
 */
const keyOf = ({ rawBody }: KeyedCall, { message, plugin }: Inbound): string | undefined =>
  Object.entries(message.metadata ?? {}).some(([name, value]) => value !== "" && OWN_ID.test(name))
    ? `inbound:${createHash("sha256").update(`${plugin}\n`).update(rawBody).digest("hex")}`
    : undefined;
