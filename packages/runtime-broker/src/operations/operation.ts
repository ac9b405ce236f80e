import type { Base } from "@rootstock/service";
import type { AgentRecord } from "../agents/agentRecord.ts";
import { agentKey } from "../agents/agentRecord.ts";
import type { Agents } from "../agents/agents.ts";
import type { CreateRequests } from "../agents/createRequests.ts";
import type { PendingCreates } from "../agents/pendingCreates.ts";
import type { RuntimeBrokerConfig } from "../config.ts";
import type { Credentials } from "../link/credentials.ts";
import type { DeliveredMessages } from "../messages/deliveredMessages.ts";
import type { OperationAnswer } from "../tunnel/answer.ts";
import { agentNotFound } from "../tunnel/errors.ts";
import { projectOf, type TunnelRequest } from "../tunnel/request.ts";

/** What operations work with. */
export interface OperationContext {
  readonly base: Base;
  readonly config: RuntimeBrokerConfig;
  readonly agents: Agents;
  readonly delivered: DeliveredMessages;
  readonly pending: PendingCreates;
  readonly creates: CreateRequests;
  readonly credentials: () => Promise<Credentials>;
  /** Milliseconds since this runtime broker started. */
  readonly uptimeMs: () => number;
  /** Terminals and logs that people look at. */
  readonly openStreams: () => number;
}

export interface OperationCall {
  readonly request: TunnelRequest;
  /** The segments of the path that the pattern names. */
  readonly params: Readonly<Record<string, string>>;
  /** The largest body that still fits the hub's frame, in bytes. */
  readonly maxBodyBytes: number;
}

/** One operation of the runtime broker's API (spec/01 section 4). */
export interface Operation {
  readonly method: "GET" | "POST" | "DELETE";
  /** Segments with `:name` for a parameter. */
  readonly path: string;
  /** `/healthz` alone may be asked by anyone. */
  readonly unsigned?: true;
  /** The agent whose turn it takes; undefined for one that changes no agent. */
  readonly turn?: (call: OperationCall, context: OperationContext) => string | undefined;
  readonly run: (call: OperationCall, context: OperationContext) => Promise<OperationAnswer>;
}

/** The turn of the agent that a path names; an unknown agent's name has a turn too. */
export const agentTurn: NonNullable<Operation["turn"]> = ({ request, params }, { agents }) => {
  const name = params.agent ?? "";
  const projectId = projectOf(request);
  return agents.store.find(name, projectId)?.key ?? agentKey(projectId, name);
};

/** @throws BrokerApiError 404 for an agent that this runtime broker does not have */
export const requireAgent = async (call: OperationCall, { agents }: OperationContext): Promise<AgentRecord> => {
  const name = call.params.agent ?? "";
  const found =
    agents.store.find(name, projectOf(call.request)) ??
    // Only now: a look at every session, for the few callers that name a container.
    agents.store.find(
      name,
      projectOf(call.request),
      new Map([...(await agents.sessions())].map(([key, session]) => [key, session.sessionId])),
    );
  if (!found) throw agentNotFound(name);
  return found;
};
