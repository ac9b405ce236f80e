import { HubError, parseUuid, type StructuredMessageInput, type Uuid } from "@rootstock/protocol";
import {
  type Db,
  type DispatchTarget,
  type NewMessage,
  runningTargets,
  targetBySlug,
  transaction,
  usersNamed,
} from "@rootstock/store";
import { z } from "zod";
import { decide, decisionOn, factsOf, type Principal } from "../auth/index.ts";
import { admitMessage, untilCertain } from "../dispatch/index.ts";
import { type ActionCall, type ActionDeps, targetResource } from "./deps.ts";
import type { Answer } from "./idempotency.ts";
import { newMessage, senderOf } from "./sendMessage.ts";

/** One recipient of a set or broadcast: what was said of it at acceptance, and the message that stands for it. */
interface Addressed {
  readonly recipient: string;
  readonly message?: NewMessage;
  readonly toPerson?: boolean;
  readonly error?: string;
}

const addressedSchema = z.object({
  recipient: z.string(),
  messageId: z.string().optional(),
  held: z.boolean(),
  /** Stored is delivered. */
  toPerson: z.boolean(),
  error: z.string().optional(),
});
/** Committed messages, as they are kept beside an idempotency key. */
export const manyOperation = z.object({ groupId: z.string(), addressed: z.array(addressedSchema) });
type ManyOperation = z.infer<typeof manyOperation>;

interface Result {
  readonly recipient: string;
  readonly status: "delivered" | "deferred" | "failed";
  readonly message_id?: Uuid;
  readonly error?: string;
}

const MAX_SET = 50;

/** The elements of `set[a,b,…]`, or undefined when `recipient` is none. Throws 400 for a malformed set (spec/02 4.1). */
export const parseSet = (recipient: string | null | undefined): readonly string[] | undefined => {
  const match = /^set\[(.*)\]$/s.exec(recipient?.trim() ?? "");
  if (!match) return undefined;
  const elements = [...new Set((match[1] ?? "").split(",").map((e) => e.trim()))].filter((e) => e !== "");
  const bad = (message: string) =>
    new HubError("validation_error", message, { details: { field: "structured_message.recipient" } });
  if (elements.length < 2 || elements.length > MAX_SET) throw bad(`a set has 2 to ${MAX_SET} different recipients`);
  for (const e of elements)
    if (e.includes("[") || (/^[a-z]+:/.test(e) && !e.startsWith("agent:") && !e.startsWith("user:")))
      throw bad(`${e} is neither agent:name nor user:name`);
  return elements;
};

/** Sends one message to each element of a set; each recipient gets its own result. */
export const sendToSet = async (
  deps: ActionDeps,
  call: ActionCall,
  p: {
    readonly projectId: Uuid;
    readonly elements: readonly string[];
    readonly message: StructuredMessageInput;
    readonly interrupt: boolean;
    readonly queue: boolean;
  },
): Promise<Answer> => {
  const sender = await senderOf(deps.database.db, call.principal);
  const groupId = p.message.metadata?.group_id ?? deps.base.random.uuid();
  const { traceparent } = call;
  const address = async (element: string): Promise<Addressed> => {
    try {
      if (element.startsWith("user:") || (!element.startsWith("agent:") && element.includes("@"))) {
        // What its scopes allow is messages to agents of one project.
        if (isLimited(call.principal)) throw new HubError("forbidden", "access tokens write to no person");
        const person = await personOf(deps.database.db, element.replace(/^user:/, ""));
        const base = personMessage(deps, { ...p, traceparent, sender, person, groupId, agentId: null });
        return { recipient: element, message: base, toPerson: true };
      }
      const slug = element.replace(/^agent:/, "");
      const target = await targetBySlug(deps.database.db, { projectId: p.projectId, slug });
      if (!target || !(await decisionOn(call.principal, "message", targetResource(target))).allow)
        throw new HubError("not_found", `agent ${slug} not found`);
      return { recipient: element, message: toAgent(deps, { ...p, traceparent, sender, target, groupId }) };
    } catch (err) {
      if (!(err instanceof HubError)) throw err;
      return { recipient: element, error: err.message };
    }
  };
  const addressed = await Promise.all(p.elements.map(address));
  return post(deps, call, groupId, addressed);
};

/** Sends to every running agent of the project except the sender (spec/02 2.9), however many there are. */
export const broadcast = async (
  deps: ActionDeps,
  call: ActionCall,
  p: {
    readonly projectId: Uuid;
    readonly message: StructuredMessageInput;
    readonly interrupt: boolean;
    readonly queue: boolean;
  },
): Promise<Answer> => {
  const sender = await senderOf(deps.database.db, call.principal);
  const groupId = deps.base.random.uuid();
  const { traceparent } = call;
  const running = await runningTargets(deps.database.db, p.projectId);
  const facts = await factsOf(call.principal);
  const addressed = running
    .filter((t) => t.agent.id !== sender.id)
    .filter((t) => decide(call.principal, "message", targetResource(t), facts).allow)
    .map((target): Addressed => {
      const recipient = `agent:${target.agent.slug}`;
      try {
        return { recipient, message: toAgent(deps, { ...p, traceparent, sender, target, groupId, broadcasted: true }) };
      } catch (err) {
        if (!(err instanceof HubError)) throw err;
        return { recipient, error: err.message };
      }
    });
  return post(deps, call, groupId, addressed);
};

const isLimited = (principal: Principal): boolean => principal.kind === "user" && principal.limits !== undefined;

const toAgent = (
  deps: ActionDeps,
  p: {
    readonly target: DispatchTarget;
    readonly sender: { readonly name: string; readonly id: Uuid };
    readonly message: StructuredMessageInput;
    readonly interrupt: boolean;
    readonly queue: boolean;
    readonly groupId: string;
    readonly broadcasted?: boolean;
    readonly traceparent: string | undefined;
  },
): NewMessage =>
  newMessage(deps, {
    target: p.target,
    sender: p.sender,
    input: p.message,
    interrupt: p.interrupt,
    holdReason: admitMessage(p.target, { ...p, now: deps.base.clock.now() }).holdReason,
    groupId: p.groupId,
    traceparent: p.traceparent,
    ...(p.broadcasted && { broadcasted: true }),
  });

/** Commits what was addressed, in one transaction, and tells each recipient's result. */
const post = async (
  deps: ActionDeps,
  call: ActionCall,
  groupId: string,
  addressed: readonly Addressed[],
): Promise<Answer> => {
  const begin = async (tx: Db): Promise<ManyOperation> => {
    const messages = (toPerson: boolean) =>
      addressed.flatMap((a) => (a.message && (a.toPerson === true) === toPerson ? [a.message] : []));
    const gone = new Set(await deps.courier.store(tx, messages(false)));
    for (const message of messages(true)) if (!(await deps.courier.storeForPerson(tx, message))) gone.add(message.id);
    return {
      groupId,
      addressed: addressed.map(({ recipient, message, toPerson, error }) => {
        const stored = message && !gone.has(message.id) ? message : undefined;
        return {
          recipient,
          held: stored?.holdReason !== null,
          toPerson: toPerson === true,
          ...(stored && { messageId: stored.id }),
          ...((error || message) && !stored && { error: error ?? "it was deleted meanwhile" }),
        };
      }),
    };
  };
  const begun = () => deps.courier.posted(addressed.flatMap((a) => (a.message ? [a.message] : [])));
  if (deps.idempotency.isKeyed(call)) return deps.idempotency.run(call, { kind: "many", begin, begun });
  const op = await untilCertain(deps.base, () => transaction(deps.database.db, begin));
  begun();
  return finishMany(deps, op);
};

/** Tells where each of several committed messages stands. */
export const finishMany = async (deps: ActionDeps, op: ManyOperation): Promise<Answer> => {
  const results = await Promise.all(op.addressed.map((a) => resultOf(deps, a)));
  const failed = results.filter((r) => r.status === "failed").length;
  return {
    status: 200,
    body: {
      group_id: op.groupId,
      status: "accepted",
      total: results.length,
      targeted: results.length - failed,
      skipped: 0,
      delivered: results.filter((r) => r.status === "delivered").length,
      failed,
      results,
    },
  };
};

const resultOf = async (deps: ActionDeps, a: z.infer<typeof addressedSchema>): Promise<Result> => {
  if (!a.messageId) return { recipient: a.recipient, status: "failed", error: a.error ?? "not accepted" };
  const found = { recipient: a.recipient, message_id: a.messageId };
  if (a.toPerson) return { ...found, status: "delivered" };
  if (a.held) return { ...found, status: "deferred" };
  const outcome = await deps.courier.outcome(a.messageId);
  if (outcome.state === "delivered") return { ...found, status: "delivered" };
  if (outcome.state === "failed") return { ...found, status: "failed", error: outcome.error ?? "not delivered" };
  return { ...found, status: "deferred" };
};

/** The one person of this e-mail, id or display name. Throws 400 when there is none, or more than one of the name. */
export const personOf = async (db: Db, text: string): Promise<{ id: Uuid; name: string }> => {
  const wanted = text.trim();
  const found = await usersNamed(db, wanted, 2);
  const [person] = found;
  if (!person)
    throw new HubError("validation_error", `no user ${parseUuid(wanted) ?? wanted}`, {
      details: { field: "recipient" },
    });
  if (found.length > 1)
    throw new HubError("validation_error", `more than one user is named ${wanted}; use the e-mail address`, {
      details: { field: "recipient" },
    });
  return { id: person.id, name: person.email };
};

/** The row of a message to a person. */
export const personMessage = (
  deps: ActionDeps,
  p: {
    readonly projectId: Uuid;
    readonly agentId: Uuid | null;
    readonly sender: { readonly name: string; readonly id: Uuid };
    readonly person: { readonly id: Uuid; readonly name: string };
    readonly message: StructuredMessageInput;
    readonly groupId: string | null;
    readonly traceparent: string | undefined;
  },
): NewMessage => ({
  id: deps.base.random.sortableUuid(deps.base.clock.now()),
  projectId: p.projectId,
  agentId: p.agentId,
  runtimeBrokerId: null,
  sender: p.sender.name,
  senderId: p.sender.id,
  recipient: `user:${p.person.name}`,
  recipientId: p.person.id,
  msg: p.message.msg,
  type: p.message.type || "instruction",
  urgent: p.message.urgent === true,
  broadcasted: false,
  groupId: p.groupId,
  channel: p.message.channel || null,
  threadId: p.message.thread_id || null,
  envelope: {
    ...(p.message.attachments?.length && { attachments: p.message.attachments }),
    ...(p.message.metadata && { metadata: p.message.metadata }),
    ...(p.message.visibility && { visibility: p.message.visibility }),
  },
  interrupt: false,
  holdReason: null,
  createdBy: p.sender.id,
  traceparent: p.traceparent ?? null,
});
