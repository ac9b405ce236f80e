import { HubError } from "@rootstock/protocol";
import type { DispatchTarget } from "@rootstock/store";
import { runsNowhere } from "../dispatch/index.ts";
import type { Relay } from "../streams/index.ts";

/** Clients give up at 30 s. */
const ANSWER_WITHIN_MS = 25_000;
const MAX_ERROR_TEXT = 2_000;

export interface InsideCall {
  /** For the error message: `read logs`. */
  readonly what: string;
  readonly method: string;
  /** The last segment of the path. */
  readonly action: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: object;
  readonly traceparent?: string | undefined;
}

/** The runtime broker that a stream or call of this agent goes to. Throws 404 for a deleted agent, 422 for one that has none. */
export const runtimeBrokerOf = ({ agent, runtimeBroker }: DispatchTarget): string => {
  if (agent.deleted_at) throw new HubError("not_found", "Agent not found");
  if (!runtimeBroker) throw runsNowhere(agent);
  return runtimeBroker.id;
};

/** Asks the runtime broker of an agent, wherever it hangs, about the agent (spec/02 2.10). Throws 502 with what it refused. */
export const askInside = async (relay: Relay, target: DispatchTarget, call: InsideCall): Promise<string> => {
  const { agent, project } = target;
  const response = await relay.call(runtimeBrokerOf(target), {
    method: call.method,
    path: `/api/v1/agents/${agent.slug}/${call.action}`,
    query: new URLSearchParams({ ...call.query, projectId: project.id }).toString(),
    timeoutMs: ANSWER_WITHIN_MS,
    traceparent: call.traceparent,
    ...(call.body && { body: call.body }),
  });
  const text = response.body.toString("utf8");
  if (response.status >= 200 && response.status < 300) return text;
  throw new HubError(
    "runtime_error",
    `Failed to ${call.what}: runtime broker returned error ${response.status}: ${text.slice(0, MAX_ERROR_TEXT)}`,
    { details: { runtimeBrokerStatus: response.status } },
  );
};
