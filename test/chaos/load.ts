import { systemClock, systemRandom } from "@rootstock/service";
import { type ApiReply, api } from "@rootstock/testkit";
import type { Dice } from "./dice.ts";
import type { Fleet } from "./fleet.ts";
import type { History, Verb } from "./history.ts";

export interface Agent {
  readonly id: string;
  readonly slug: string;
  /** Whether its lifecycle is part of the load. */
  readonly cycled: boolean;
  /** Whether its runtime broker reads messages of every size. */
  readonly takesLarge: boolean;
}

export interface LoadContext {
  readonly fleet: Fleet;
  readonly history: History;
  readonly dice: Dice;
  readonly projectId: string;
  readonly agents: readonly Agent[];
  /** How often a call carries an `Idempotency-Key`. */
  readonly keyed: number;
  /** Aborts when the load is to end; what is under way ends first. */
  readonly ending: AbortSignal;
}

const CALL_TIMEOUT_MS = 40_000;
const KEYED_ATTEMPTS = 30;
const BRING_UP_MS = 40_000;
/** How often a caller with a key hears nothing of its first answer, and asks elsewhere. */
const ANSWER_DROPPED = 0.4;
/** A caller that gives up does so within this time, in milliseconds. */
const PATIENCE_MS = 80;
/** Texts of this size pass every runtime broker; those are too large for an unmodified one. In characters. */
const LARGE = { passes: 30_000, oversize: 60_000 };

interface Asked {
  readonly call: string;
  /** POST by default. */
  readonly method?: "DELETE";
  readonly path: string;
  readonly body?: object | undefined;
  readonly keyed: boolean;
}

/** Whether a repetition with the same key may get another answer. */
const inDoubt = (reply: ApiReply | undefined): boolean =>
  reply === undefined ||
  reply.status === 503 ||
  (reply.status === 409 && reply.get("error.code") === "request_in_progress");

/** The status, 0 where nobody knows how it ended. */
const statusOf = (reply: ApiReply | undefined): number =>
  reply === undefined ||
  reply.get("error.details.outcome") === "unknown" ||
  reply.get("error.code") === "request_in_progress"
    ? 0
    : reply.status;

/**
 * One call; one with a key is repeated on other replicas until somebody knows how it ended. Some of those lose their
 * first answer: the caller gives up early, or the answer does not reach it.
 */
const callHub = async (context: LoadContext, asked: Asked): Promise<ApiReply | undefined> => {
  const { fleet, dice, history } = context;
  const key = asked.keyed ? systemRandom.uuid() : undefined;
  const impatient = key !== undefined && dice.chance(ANSWER_DROPPED);
  let replica: { readonly url: string } | undefined;
  let reply: ApiReply | undefined;
  for (let attempt = 0; attempt < (key ? KEYED_ATTEMPTS : 1); attempt += 1) {
    if (attempt > 0) await systemClock.sleep(dice.between(20, 400));
    const dropped = impatient && attempt === 0;
    replica = fleet.forCall(dice, replica);
    reply = await api(replica, asked.method ?? "POST", asked.path, asked.body, {
      signal: AbortSignal.timeout(dropped ? dice.between(1, PATIENCE_MS) : CALL_TIMEOUT_MS),
      ...(key && { headers: { "idempotency-key": key } }),
    }).catch(() => undefined);
    if (inDoubt(reply)) continue;
    if (key && reply)
      history.add({ kind: "answered by key", call: asked.call, status: reply.status, body: reply.body });
    if (!dropped) break;
  }
  return reply;
};

/** Words behind the number of a message: few, or so many that not every runtime broker takes them. */
const padding = (dice: Dice): string => {
  if (dice.chance(0.97)) return "";
  return ` ${"x".repeat(dice.chance(0.7) ? LARGE.passes : LARGE.oversize)}`;
};

/** Sends numbered texts to one agent after the other, each when the one before has been answered. */
export const sender = async (context: LoadContext, name: string): Promise<void> => {
  const { history, dice } = context;
  for (let n = 0; !context.ending.aborted; n += 1) {
    await systemClock.sleep(dice.between(5, 120));
    const agent = dice.pick(context.agents);
    const call = `${name}:${n}`;
    const text = `${call}>${agent.slug}`;
    const words = padding(dice);
    history.add({
      kind: "asked",
      call,
      agent: agent.id,
      text,
      oversize: !agent.takesLarge && words.length > LARGE.passes + 1,
    });
    const reply = await callHub(context, {
      call,
      path: `/api/v1/agents/${agent.id}/message`,
      body: { structured_message: { msg: text + words } },
      keyed: dice.chance(context.keyed),
    });
    const messageId = reply?.get("message_id");
    history.add({
      kind: "answered",
      call,
      agent: agent.id,
      status: statusOf(reply),
      messageId: typeof messageId === "string" ? messageId : undefined,
    });
  }
};

/** Broadcasts, with one text to all: who gets it is in the answer. */
export const broadcaster = async (context: LoadContext, name: string): Promise<void> => {
  const { history, dice } = context;
  for (let n = 0; !context.ending.aborted; n += 1) {
    await systemClock.sleep(dice.between(600, 1_800));
    const call = `${name}:${n}`;
    const askedAt = history.now();
    const reply = await callHub(context, {
      call,
      path: `/api/v1/projects/${context.projectId}/broadcast`,
      body: { structured_message: { msg: call } },
      keyed: dice.chance(context.keyed),
    });
    for (const result of reply?.list("results") ?? []) {
      const { recipient, status, message_id: messageId } = result as Record<string, string>;
      const agent = context.agents.find((a) => `agent:${a.slug}` === recipient);
      if (!agent || messageId === undefined) continue;
      // Each recipient's message is a fact of its own; on the wire they share the text.
      history.facts.push({ kind: "asked", at: askedAt, call, agent: agent.id, text: `${call}>${agent.slug}` });
      history.add({
        kind: "answered",
        call,
        agent: agent.id,
        status: status === "delivered" ? 200 : status === "deferred" ? 202 : 502,
        messageId,
      });
    }
  }
};

/** Stops, starts and restarts one agent, one call after the other, and leaves it running. */
export const cycle = async (context: LoadContext, agent: Agent): Promise<void> => {
  const { dice, ending } = context;
  let n = 0;
  const operate = async (verb: Verb, keyed: boolean): Promise<boolean> => {
    const call = `${agent.slug}:${verb}:${n}`;
    n += 1;
    context.history.add({ kind: "operation asked", call, agent: agent.id, verb });
    const reply = await callHub(context, { call, path: `/api/v1/agents/${agent.id}/${verb}`, keyed });
    const unfinished = reply?.status === 202 || reply?.list("warnings").length !== 0;
    const status = statusOf(reply);
    context.history.add({ kind: "operation answered", call, status, unfinished });
    return status === 200 && !unfinished;
  };
  const report = (): Promise<unknown> =>
    api(context.fleet.forCall(dice), "POST", `/api/v1/agents/${agent.id}/status`, { activity: "working" }).catch(
      () => {},
    );
  while (!ending.aborted) {
    await systemClock.sleep(dice.between(100, 900));
    const verb = dice.pick<Verb>(["stop", "restart", "stop"]);
    await operate(verb, dice.chance(context.keyed));
    await systemClock.sleep(dice.between(0, 400));
    if (verb === "stop") await operate("start", dice.chance(context.keyed));
    await report();
  }
};

/**
 * Creates agents of its own and deletes them again. To the history they go by their slugs, which begin with this name:
 * the answer that tells an id may be lost.
 */
export const maker = async (context: LoadContext, name: string, runtimeBrokers: readonly string[]): Promise<void> => {
  const { dice, history } = context;
  const operate = async (
    verb: "create" | "delete",
    slug: string,
    asked: Omit<Asked, "call">,
  ): Promise<ApiReply | undefined> => {
    const call = `${slug}:${verb}`;
    history.add({ kind: "operation asked", call, agent: slug, verb });
    const reply = await callHub(context, { call, ...asked });
    const unfinished = reply?.status === 202 || reply?.list("warnings").length !== 0;
    history.add({ kind: "operation answered", call, status: statusOf(reply), unfinished });
    return reply;
  };
  for (let n = 0; !context.ending.aborted; n += 1) {
    await systemClock.sleep(dice.between(200, 1_500));
    const slug = `${name}-${n}`;
    const made = await operate("create", slug, {
      path: `/api/v1/projects/${context.projectId}/agents`,
      body: { name: slug, task: "wait", runtimeBrokerId: dice.pick(runtimeBrokers) },
      keyed: dice.chance(context.keyed),
    });
    const id = made?.get("agent.id");
    if (typeof id !== "string" || dice.chance(0.3)) continue;
    await systemClock.sleep(dice.between(0, 300));
    await operate("delete", slug, {
      method: "DELETE",
      path: `/api/v1/agents/${id}`,
      keyed: dice.chance(context.keyed),
    });
  }
};

/** After the faults have ended: brings an agent up, so that what was kept for it can arrive. */
export const bringUp = async (context: LoadContext, agent: Agent): Promise<void> => {
  const until = performance.now() + BRING_UP_MS;
  for (let attempt = 0; performance.now() < until; attempt += 1) {
    const call = `${agent.slug}:up:${attempt}`;
    context.history.add({ kind: "operation asked", call, agent: agent.id, verb: "start" });
    const reply = await callHub(context, { call, path: `/api/v1/agents/${agent.id}/start`, keyed: true });
    const unfinished = reply?.status === 202 || reply?.list("warnings").length !== 0;
    context.history.add({ kind: "operation answered", call, status: statusOf(reply), unfinished });
    if (reply?.status === 200 && !unfinished && reply.get("phase") === "running") break;
    await systemClock.sleep(500);
  }
  await api(context.fleet.forCall(context.dice), "POST", `/api/v1/agents/${agent.id}/status`, { activity: "working" });
};
