import { parsePhase, storable } from "@rootstock/protocol";
import type { LaunchFacts } from "@rootstock/store";
import { z } from "zod";
import type { Named, OperationContext, OperationFailure } from "./operation.ts";

/** The calls that operations make through the tunnel, and how their answers are read (spec/01 section 4). */

export interface RuntimeBrokerAnswer {
  readonly status: number;
  readonly body: unknown;
  /** The body as text, for messages. */
  readonly text: string;
}

/** Sends one request to the runtime broker of the operation. Throws {@link TunnelError} when it did not get an answer. */
export const callRuntimeBroker = async (
  context: Pick<OperationContext, "connection" | "traceparent">,
  request: {
    readonly method: string;
    readonly path: string;
    readonly query?: Readonly<Record<string, string>>;
    readonly body?: object;
    readonly timeoutMs?: number;
  },
): Promise<RuntimeBrokerAnswer> => {
  const response = await context.connection.call({
    method: request.method,
    path: request.path,
    priority: "lifecycle",
    traceparent: context.traceparent,
    ...(request.query && { query: new URLSearchParams(request.query).toString() }),
    ...(request.body && { body: request.body }),
    ...(request.timeoutMs && { timeoutMs: request.timeoutMs }),
  });
  const text = response.body.toString("utf8");
  return { status: response.status, text, body: parseBody(text) };
};

/** What is read goes into the database: texts come out as that can hold them. Too deep counts as unreadable. */
const parseBody = (text: string): unknown => {
  // Common, and dearer as an error than all else of an answer.
  if (text === "") return undefined;
  try {
    return JSON.parse(text, (_, value: unknown) => (typeof value === "string" ? storable(value, MAX_TEXT) : value));
  } catch {
    return undefined;
  }
};

/** The path of an agent at its runtime broker. Slugs are `[a-z0-9-]`, ids UUIDs: neither needs encoding. */
export const agentPath = (context: { readonly target: Named }, action?: string): string =>
  `/api/v1/agents/${context.target.agent.slug}${action ? `/${action}` : ""}`;

export const projectQuery = (context: { readonly target: Named }): Record<string, string> => ({
  projectId: context.target.project.id,
});

const MAX_ERROR_TEXT = 2_000;
/** More than any field of an answer needs that the hub keeps, in characters. */
const MAX_TEXT = 4_096;

/** 502 with what the runtime broker said, in the form that clients know (spec/02 2.10). */
export const runtimeFailure = (what: string, answer: RuntimeBrokerAnswer): OperationFailure => ({
  code: "runtime_error",
  message: `Failed to ${what}: runtime broker returned error ${answer.status}: ${storable(answer.text, MAX_ERROR_TEXT)}`,
  details: { runtimeBrokerStatus: answer.status },
});

/** Absent, null and empty are the same to the original. */
const text = z
  .string()
  .nullish()
  .transform((s) => s || undefined);

const agentSchema = z.object({
  id: text,
  containerId: text,
  template: text,
  harnessConfig: text,
  harnessAuth: text,
  image: text,
  runtime: text,
  profile: text,
  phase: text,
  containerStatus: text,
});

/** What the hub keeps of the agent in an answer; `phase` when the answer names none that we know. */
export const launchFacts = (body: unknown, phase: LaunchFacts["phase"]): LaunchFacts => {
  const parsed = z
    .object({ agent: agentSchema })
    .or(agentSchema.transform((agent) => ({ agent })))
    .safeParse(body);
  const agent = parsed.success ? parsed.data.agent : undefined;
  // Where nothing but files was prepared, the answer names the agent instead of a container.
  const runs = agent?.containerId ?? agent?.id;
  return {
    phase: parsePhase(agent?.phase) ?? phase,
    containerStatus: agent?.containerStatus ?? null,
    ...(runs && { runtimeState: `container:${runs}` }),
    ...(agent?.template && { template: agent.template }),
    ...(agent?.image && { image: agent.image }),
    ...(agent?.runtime && { runtime: agent.runtime }),
    ...(agent?.harnessConfig && { harnessConfig: agent.harnessConfig }),
    ...(agent?.harnessAuth && { harnessAuth: agent.harnessAuth }),
    ...(agent?.profile && { profile: agent.profile }),
  };
};

/**
 * The agent as the runtime broker has it now: how a second attempt finds out what became of the first. Undefined when
 * it does not know the agent.
 */
export const askForAgent = async (context: OperationContext): Promise<LaunchFacts | undefined> => {
  const answer = await callRuntimeBroker(context, {
    method: "GET",
    path: agentPath(context),
    query: projectQuery(context),
  });
  return answer.status === 200 ? launchFacts(answer.body, "stopped") : undefined;
};
