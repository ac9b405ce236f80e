import {
  HubError,
  notFound,
  type StructuredMessage,
  type StructuredMessageInput,
  type Uuid,
} from "@rootstock/protocol";
import {
  createSubscription,
  type Db,
  type DispatchTarget,
  findAgent,
  type MessageOutcome,
  type NewMessage,
  targetById,
  transaction,
} from "@rootstock/store";
import { z } from "zod";
import { decisionOn, type Principal, principalId, type UserPrincipal } from "../auth/index.ts";
import { admitMessage, StaleTarget, untilCertain } from "../dispatch/index.ts";
import { changeLifecycle } from "./changeLifecycle.ts";
import { type ActionCall, type ActionDeps, targetResource } from "./deps.ts";
import type { Answer } from "./idempotency.ts";

/** A message to one agent as it was asked for. */
export interface MessageRequest {
  readonly message: StructuredMessageInput;
  readonly interrupt: boolean;
  /** Tell the sender how it goes on with the agent. */
  readonly notify: boolean;
  /** Resume the agent first when it is suspended. */
  readonly wake: boolean;
  /** Keep the message for the agent's next run when it does not run. */
  readonly queue: boolean;
}

/** What a sender who asked for it hears of (spec/02 2.9). */
const NOTIFY_TRIGGERS = ["COMPLETED", "WAITING_FOR_INPUT", "LIMITS_EXCEEDED", "STALLED", "ERROR"];

/**
 * What people call themselves, unless that is an address: somebody else's would be taken for that person, and agents would
 * answer there.
 */
const shownName = ({ displayName, email }: UserPrincipal): string =>
  displayName === "" || displayName.includes("@") ? email : displayName;

/** The sender's name and id. Taken from the credential: what a message claims about its sender is not believed. */
export const senderOf = async (db: Db, principal: Principal): Promise<{ name: string; id: Uuid }> => {
  if (principal.kind === "user") return { name: `user:${shownName(principal)}`, id: principal.id };
  if (principal.kind === "agent") {
    const agent = await findAgent(db, principal.id);
    return { name: `agent:${agent?.slug ?? principal.id}`, id: principal.id };
  }
  throw new HubError("forbidden", "only users and agents send messages");
};

/** The fields that are passed on when they are there and true or not empty. */
const passedOn = (m: StructuredMessageInput) => ({
  ...(m.plain && { plain: true as const }),
  ...(m.raw && { raw: true as const }),
  ...(m.urgent && { urgent: true as const }),
  ...(m.observer_only && { observer_only: true as const }),
  ...(m.status && { status: m.status }),
  ...(m.attachments?.length && { attachments: m.attachments }),
  ...(m.metadata && Object.keys(m.metadata).length > 0 && { metadata: m.metadata }),
  ...(m.channel && { channel: m.channel }),
  ...(m.thread_id && { thread_id: m.thread_id }),
  ...(m.visibility && { visibility: m.visibility }),
});

/** Refuses a text that no agent could take. An empty one is the Enter key, for a plain message (spec/01 4.6). */
const checkMessage = (m: StructuredMessageInput): void => {
  if (m.msg === "" && !m.plain && !m.raw)
    throw new HubError("validation_error", "msg must not be empty", { details: { field: "structured_message.msg" } });
  if (m.thread_id && !m.channel)
    throw new HubError("validation_error", "thread_id needs a channel", {
      details: { field: "structured_message.thread_id" },
    });
};

/** Whom a message is from: somebody of this hub, or somebody outside, whom the plugin of a runtime broker speaks for. */
export type Sender =
  | { readonly name: string; readonly id: Uuid }
  | {
      readonly name: string;
      readonly id: null;
      readonly outsideId: string | undefined;
      readonly runtimeBrokerId: Uuid;
    };

/** The row of a message to an agent. */
export const newMessage = (
  deps: ActionDeps,
  p: {
    readonly target: DispatchTarget;
    readonly sender: Sender;
    readonly input: StructuredMessageInput;
    readonly interrupt: boolean;
    readonly holdReason: string | null;
    readonly broadcasted?: boolean;
    readonly groupId?: string;
    readonly stamp?: string;
    readonly traceparent?: string | undefined;
  },
): NewMessage => {
  checkMessage(p.input);
  const { agent } = p.target;
  const recipient = `agent:${agent.slug}`;
  const type = p.input.type || "instruction";
  const broadcasted = p.broadcasted === true || p.input.broadcasted === true;
  const outside = p.sender.id === null ? p.sender : undefined;
  const senderId = p.sender.id === null ? p.sender.outsideId : p.sender.id;
  const envelope: Omit<StructuredMessage, "msg"> = {
    version: 1,
    timestamp: new Date(deps.base.clock.now()).toISOString(),
    sender: p.sender.name,
    ...(senderId !== undefined && { sender_id: senderId }),
    recipient,
    recipient_id: agent.id,
    ...(p.input.recipients && { recipients: p.input.recipients }),
    type,
    ...passedOn(p.input),
    ...(broadcasted && { broadcasted }),
  };
  return {
    id: deps.base.random.sortableUuid(deps.base.clock.now()),
    projectId: agent.project_id,
    agentId: agent.id,
    runtimeBrokerId: agent.runtime_broker_id,
    sender: p.sender.name,
    senderId: p.sender.id,
    outsideSenderId: outside?.outsideId,
    recipient,
    recipientId: agent.id,
    msg: p.input.msg,
    type,
    urgent: p.input.urgent === true,
    broadcasted,
    groupId: p.groupId ?? p.input.metadata?.group_id ?? null,
    channel: p.input.channel || null,
    threadId: p.input.thread_id || null,
    envelope: { ...envelope },
    interrupt: p.interrupt,
    holdReason: p.holdReason,
    createdBy: p.sender.id === null ? p.sender.runtimeBrokerId : p.sender.id,
    traceparent: p.traceparent ?? null,
    ...(p.stamp !== undefined && { stamp: p.stamp }),
  };
};

/** A committed message, as it is kept beside an idempotency key. */
export const messageOperation = z.object({
  messageId: z.string(),
  agentId: z.string(),
  /** Why it was known to wait when it was accepted. */
  holdReason: z.string().optional(),
});
type MessageOperation = z.infer<typeof messageOperation>;

/** Sends a message to one agent (spec/02 2.9): 200 when the runtime broker has acknowledged it within 2 s, else 202. */
export const sendMessage = async (
  deps: ActionDeps,
  call: ActionCall,
  asked: DispatchTarget,
  request: MessageRequest,
): Promise<Answer> => {
  const target = request.wake ? await wake(deps, call, asked) : asked;
  const sender = await senderOf(deps.database.db, call.principal);
  const { holdReason } = admitMessage(target, { ...request, now: deps.base.clock.now() });
  const build = () =>
    newMessage(deps, {
      target,
      sender,
      input: request.message,
      interrupt: request.interrupt,
      holdReason,
      traceparent: call.traceparent,
    });
  if (isPlain(deps, call, { ...request, wake: false })) {
    const posted = await deps.courier.post(build(), target);
    return answerOf(target, await posted.outcome);
  }
  // Under one id, however often it has to be begun.
  const message = build();
  const begin = async (tx: Db): Promise<MessageOperation> => {
    if ((await deps.courier.store(tx, [message])).length > 0) throw notFound("Agent");
    if (request.notify) await subscribe(deps, tx, call.principal, target);
    return { messageId: message.id, agentId: target.agent.id, ...(holdReason !== null && { holdReason }) };
  };
  const begun = () => deps.courier.posted([message]);
  if (deps.idempotency.isKeyed(call)) return deps.idempotency.run(call, { kind: "message", begin, begun });
  const op = await untilCertain(deps.base, () => transaction(deps.database.db, begin));
  begun();
  return untilCertain(deps.base, () => finishMessage(deps, op), { begun: true });
};

/** Whether a call does nothing but store one message. */
export const isPlain = (deps: ActionDeps, call: ActionCall, request: MessageRequest): boolean =>
  !request.notify && !request.wake && !deps.idempotency.isKeyed(call);

/**
 * Sends a plain message to a target as it was some time ago: the statement that stores the message makes sure that it is
 * so still. Undefined, with nothing stored, when it is not, or when the message could not go at once: then it is for
 * {@link sendMessage} to decide, on what is so now.
 */
export const sendToRemembered = async (
  deps: ActionDeps,
  call: ActionCall,
  target: DispatchTarget,
  request: MessageRequest,
): Promise<Answer | undefined> => {
  const { courier, base } = deps;
  try {
    const { holdReason } = admitMessage(target, { ...request, now: base.clock.now() });
    if (holdReason !== null) return undefined;
  } catch (err) {
    if (err instanceof HubError) return undefined;
    throw err;
  }
  const message = newMessage(deps, {
    target,
    sender: await senderOf(deps.database.db, call.principal),
    input: request.message,
    interrupt: request.interrupt,
    holdReason: null,
    traceparent: call.traceparent,
    stamp: target.stamp,
  });
  try {
    const posted = await courier.post(message, target);
    return answerOf(target, await posted.outcome);
  } catch (err) {
    if (!(err instanceof StaleTarget)) throw err;
    courier.targets.forget(target);
    return undefined;
  }
};

/** Tells where a committed message stands. */
export const finishMessage = async (deps: ActionDeps, op: MessageOperation): Promise<Answer> => {
  const target = await targetById(deps.database.db, op.agentId);
  if (!target) throw notFound("Agent");
  return answerOf(
    target,
    op.holdReason === undefined ? await deps.courier.outcome(op.messageId) : held(op.messageId, op.holdReason),
  );
};

const held = (id: Uuid, reason: string): MessageOutcome => ({ id, state: "pending", holdReason: reason, error: null });

const subscribe = async (deps: ActionDeps, tx: Db, principal: Principal, target: DispatchTarget): Promise<void> => {
  const id = principalId(principal);
  if (!id) return;
  await createSubscription(tx, {
    id: deps.base.random.uuid(),
    agentId: target.agent.id,
    projectId: target.agent.project_id,
    subscriber: { type: principal.kind === "agent" ? "agent" : "user", id },
    triggerActivities: NOTIFY_TRIGGERS,
  });
};

/** Resumes a suspended agent before its message. Only who may resume it may wake it. */
const wake = async (deps: ActionDeps, call: ActionCall, target: DispatchTarget): Promise<DispatchTarget> => {
  if (target.agent.phase !== "suspended") return target;
  const decision = await decisionOn(call.principal, "lifecycle", targetResource(target));
  if (!decision.allow) throw new HubError("forbidden", `you may not wake the agent: ${decision.reason}`);
  await changeLifecycle(deps, { ...call, headers: new Headers() }, target, "resume");
  return (await targetById(deps.database.db, target.agent.id)) ?? target;
};

/** The truth about a committed message: acknowledged, waiting and why, or failed. */
const answerOf = ({ agent }: DispatchTarget, outcome: MessageOutcome): Answer => {
  const body = { message_id: outcome.id, agent: agent.slug, agent_phase: agent.phase };
  switch (outcome.state) {
    case "delivered":
      return { status: 200, body: { ...body, status: "delivered", state: "dispatched" } };
    case "failed":
      throw new HubError("runtime_error", `the message could not be delivered: ${outcome.error ?? "unknown reason"}`, {
        details: { message_id: outcome.id },
      });
    default:
      return {
        status: 202,
        body: {
          ...body,
          status: "pending",
          state: "pending",
          ...(outcome.holdReason && { reason: outcome.holdReason }),
        },
      };
  }
};
