import { HubError, notFound } from "@rootstock/protocol";
import { type DispatchTarget, LISTENS_AFTER_SECONDS } from "@rootstock/store";
import { reachability, runsNowhere } from "./reachability.ts";

/** A message that may be stored; `holdReason` says why it waits, when it is known to. */
export interface Acceptance {
  readonly holdReason: string | null;
}

/**
 * Whether a message for this agent may be accepted now. The truth at this moment: what happens after it was accepted
 * only holds the message, it never loses it. `queue` keeps it for the agent's next run.
 * Throws 404, 409 `agent_not_running` that says how to wake the agent, 422 `no_runtime_broker`, or 503.
 */
export const admitMessage = (
  target: DispatchTarget,
  options: {
    readonly queue: boolean;
    /** Milliseconds since the Unix epoch; decides only what the sender is told, not when the message goes. */
    readonly now: number;
  },
): Acceptance => {
  const { agent, runtimeBroker } = target;
  if (agent.deleted_at) throw notFound("agent");
  if (!runtimeBroker) throw runsNowhere(agent);
  const reach = reachability(runtimeBroker);
  switch (agent.phase) {
    case "running":
      if (reach === "away" && !options.queue)
        throw new HubError("runtime_broker_unavailable", `runtime broker ${runtimeBroker.name} is not connected`, {
          details: {
            requestedBrokerId: runtimeBroker.id,
            availableBrokers: null,
            hint: 'send "queue": true to keep the message until it returns',
          },
          retryAfter: 30,
        });
      if (reach !== "connected") return { holdReason: `runtime broker ${runtimeBroker.name} is not connected` };
      return { holdReason: listens(agent, options.now) ? null : "the agent has reported no activity since its start" };
    case "provisioning":
    case "cloning":
    case "starting":
      return { holdReason: `the agent is ${agent.phase}` };
    default:
      if (options.queue) return { holdReason: `the agent is ${agent.phase}` };
      throw new HubError(
        "agent_not_running",
        `agent ${agent.slug} is ${agent.phase}, not running; ${wakeHint(agent.phase)}`,
        {
          details: { phase: agent.phase, hint: wakeHint(agent.phase) },
        },
      );
  }
};

/** As the claim decides it, by the database's clock. */
const listens = (agent: DispatchTarget["agent"], now: number): boolean =>
  agent.ready_at !== null ||
  agent.running_since === null ||
  now - agent.running_since.getTime() >= LISTENS_AFTER_SECONDS * 1000;

const wakeHint = (phase: string): string =>
  phase === "suspended"
    ? 'resume it, or send the message with "wake": true, or "queue": true to keep it for the next run'
    : 'start it, or send the message with "queue": true to keep it for the next run';
