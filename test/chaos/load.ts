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
}

export interface LoadContext {
  readonly fleet: Fleet;
  readonly history: History;
  readonly dice: Dice;
  readonly projectId: string;
  readonly agents: readonly Agent[];
  /** Aborts when the load is to end; what is under way ends first. */
  readonly ending: AbortSignal;
}

const CALL_TIMEOUT_MS = 40_000;
const KEYED_ATTEMPTS = 30;
const BRING_UP_MS = 40_000;

interface Asked {
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

/** One call; one with a key is repeated on other replicas until somebody knows how it ended. */
const callHub = async (context: LoadContext, asked: Asked): Promise<ApiReply | undefined> => {
  const key = asked.keyed ? systemRandom.uuid() : undefined;
  let reply: ApiReply | undefined;
  for (let attempt = 0; attempt < (key ? KEYED_ATTEMPTS : 1); attempt += 1) {
    if (attempt > 0) await systemClock.sleep(context.dice.between(100, 600));
    reply = await api(context.fleet.any(context.dice), "POST", asked.path, asked.body, {
      signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
      ...(key && { headers: { "idempotency-key": key } }),
    }).catch(() => undefined);
    if (!inDoubt(reply)) break;
  }
  return reply;
};

/** Sends numbered texts to one agent after the other, each when the one before has been answered. */
export const sender = async (context: LoadContext, name: string): Promise<void> => {
  const { history, dice } = context;
  for (let n = 0; !context.ending.aborted; n += 1) {
    await systemClock.sleep(dice.between(5, 120));
    const agent = dice.pick(context.agents);
    const call = `${name}:${n}`;
    history.add({ kind: "asked", call, agent: agent.id, text: `${call}>${agent.slug}` });
    const reply = await callHub(context, {
      path: `/api/v1/agents/${agent.id}/message`,
      body: { structured_message: { msg: `${call}>${agent.slug}` } },
      keyed: dice.chance(0.3),
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
      path: `/api/v1/projects/${context.projectId}/broadcast`,
      body: { structured_message: { msg: call } },
      keyed: dice.chance(0.5),
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
    const reply = await callHub(context, { path: `/api/v1/agents/${agent.id}/${verb}`, keyed });
    const unfinished = reply?.status === 202 || reply?.list("warnings").length !== 0;
    const status = statusOf(reply);
    context.history.add({ kind: "operation answered", call, status, unfinished });
    return status === 200 && !unfinished;
  };
  const report = (): Promise<unknown> =>
    api(context.fleet.any(dice), "POST", `/api/v1/agents/${agent.id}/status`, { activity: "working" }).catch(() => {});
  while (!ending.aborted) {
    await systemClock.sleep(dice.between(100, 900));
    const verb = dice.pick<Verb>(["stop", "restart", "stop"]);
    await operate(verb, dice.chance(0.5));
    await systemClock.sleep(dice.between(0, 400));
    if (verb === "stop") await operate("start", dice.chance(0.5));
    await report();
  }
};

/** After the faults have ended: brings an agent up, so that what was kept for it can arrive. */
export const bringUp = async (context: LoadContext, agent: Agent): Promise<void> => {
  const until = performance.now() + BRING_UP_MS;
  for (let attempt = 0; performance.now() < until; attempt += 1) {
    const call = `${agent.slug}:up:${attempt}`;
    context.history.add({ kind: "operation asked", call, agent: agent.id, verb: "start" });
    const reply = await callHub(context, { path: `/api/v1/agents/${agent.id}/start`, keyed: true });
    const unfinished = reply?.status === 202 || reply?.list("warnings").length !== 0;
    context.history.add({ kind: "operation answered", call, status: statusOf(reply), unfinished });
    if (reply?.status === 200 && !unfinished && reply.get("phase") === "running") break;
    await systemClock.sleep(500);
  }
  await api(context.fleet.any(context.dice), "POST", `/api/v1/agents/${agent.id}/status`, { activity: "working" });
};
