import { systemClock } from "@rootstock/service";
import {
  joinRuntimeBroker,
  type ReceivedRequest,
  type SimulatedReply,
  SimulatedRuntimeBroker,
  TEST_TOKEN,
} from "@rootstock/testkit";
import type { Dice } from "./dice.ts";
import { type Fleet, NOWHERE } from "./fleet.ts";
import type { Action, History } from "./history.ts";

/** A simulated runtime broker that writes down what comes through its tunnel and what it does. */
export interface RecordedRuntimeBroker {
  readonly id: string;
  readonly remembers: boolean;
  readonly peer: SimulatedRuntimeBroker;
  /** Each answer takes this much longer, in milliseconds. */
  delayMs: number;
  /** While it is away, it dials nobody. */
  away: boolean;
}

export interface Surroundings {
  readonly fleet: Fleet;
  readonly history: History;
  readonly dice: Dice;
  /** How an agent is known to the history, by its slug. */
  readonly agentOf: (slug: string) => string;
  /** How a message is known to the history: a broadcast's text is the same for all. */
  readonly textOf: (msg: string, agent: string) => string;
}

/** The unmodified one drops its connection after a slow request: here sooner than its 30 s, in milliseconds. */
const DROPS_AFTER_MS = 1_000;

const messageOf = (request: ReceivedRequest): { readonly messageId: string; readonly text: string } => {
  const body = request.json as { message_id?: string; structured_message?: { msg?: string } } | undefined;
  return { messageId: body?.message_id ?? "", text: body?.structured_message?.msg ?? "" };
};

/** A create names it in its body, everything else in its path. */
const slugOf = (request: ReceivedRequest): string => {
  const { name } = (request.json ?? {}) as { name?: string };
  return request.path.split("/")[4] ?? name ?? "";
};

/** What the request has the runtime broker do; undefined for what changes no agent. A create is repeated by its id. */
const actionOf = (request: ReceivedRequest, created: Set<string>): Action | undefined => {
  const [, , , , slug, action] = request.path.split("/");
  if (request.method === "DELETE" && slug && !action) return "delete";
  if (request.method !== "POST") return undefined;
  if (slug) return action === "start" || action === "stop" ? action : undefined;
  const { requestId = "" } = (request.json ?? {}) as { requestId?: string };
  if (!request.path.endsWith("/agents") || created.has(requestId)) return undefined;
  created.add(requestId);
  return "create";
};

/** Registers a runtime broker, and dials whichever replica the load balancer gives it. */
export const startRuntimeBroker = async (
  around: Surroundings,
  name: string,
  remembers: boolean,
): Promise<RecordedRuntimeBroker> => {
  const { fleet, history, dice } = around;
  const credentials = await joinRuntimeBroker({
    hubUrl: fleet.forCall(dice).url,
    token: TEST_TOKEN,
    name,
    autoProvide: true,
  });
  const id = credentials.brokerId;
  const peer = new SimulatedRuntimeBroker({
    hubUrl: () => (recorded.away ? NOWHERE : fleet.forDial(dice)).url,
    credentials,
    like: remembers ? "rootstock" : "unmodified",
    firstRetryMs: 50,
    dropsAfterMs: DROPS_AFTER_MS,
    handle: (request) => handle(request),
  });
  const recorded: RecordedRuntimeBroker = { id, remembers, peer, delayMs: 0, away: false };
  let executions = 0;
  const created = new Set<string>();

  const handle = async (request: ReceivedRequest): Promise<SimulatedReply> => {
    const action = actionOf(request, created);
    const slug = slugOf(request);
    executions += 1;
    const execution = `${id} ${executions}`;
    if (action)
      history.add({
        kind: "execution began",
        execution,
        runtimeBroker: id,
        session: request.sessionId,
        agent: around.agentOf(slug),
        action,
      });
    await systemClock.sleep(recorded.delayMs + (action ? dice.between(1, 40) : dice.between(0, 3)));
    const reply = await peer.agents.handle(request);
    if (action) history.add({ kind: "execution ended", execution });
    if (request.path.endsWith("/message")) deliver(request, around.agentOf(slug));
    return reply;
  };
  const deliver = (request: ReceivedRequest, agent: string): void => {
    const { messageId, text } = messageOf(request);
    const named = around.textOf(text, agent);
    const runs = peer.agents.phases.get(slugOf(request)) === "running";
    if (runs) history.add({ kind: "delivered", runtimeBroker: id, agent, messageId, text: named });
    else history.add({ kind: "dropped", agent, messageId });
  };

  const replicas = new Map<string, string>();
  peer.onSession.on(({ sessionId, hubUrl }) => {
    replicas.set(sessionId, fleet.nameOf(hubUrl));
    history.add({ kind: "session began", runtimeBroker: id, session: sessionId, replica: fleet.nameOf(hubUrl) });
  });
  peer.onClose.on(({ sessionId }) => history.add({ kind: "session ended", runtimeBroker: id, session: sessionId }));
  peer.onRequest.on((request) => {
    if (!request.path.endsWith("/message")) return;
    const agent = around.agentOf(slugOf(request));
    const { messageId, text } = messageOf(request);
    history.add({
      kind: "received",
      runtimeBroker: id,
      session: request.sessionId,
      replica: replicas.get(request.sessionId) ?? "",
      agent,
      messageId,
      text: around.textOf(text, agent),
    });
  });
  await peer.connect();
  return recorded;
};
