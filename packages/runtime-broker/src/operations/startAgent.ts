import { type AgentRecord, agentKey } from "../agents/agentRecord.ts";
import { type CreatePayload, createPayload, type StartPayload, startPayload } from "../agents/createPayload.ts";
import { agentLabels } from "../agents/labels.ts";
import { hubUrlForAgent } from "../agents/launchEnv.ts";
import type { OperationAnswer } from "../tunnel/answer.ts";
import { agentNotFound, BrokerApiError } from "../tunnel/errors.ts";
import { projectOf, type TunnelRequest } from "../tunnel/request.ts";
import { startCreated } from "./createAgent.ts";
import { agentTurn, type Operation, type OperationCall, type OperationContext } from "./operation.ts";
import { removeFormer } from "./removeAgent.ts";

/** Malformed JSON counts as no body: the original reads it so, and a start must not fail for it (spec/01 4.5). */
export const readStart = (request: TunnelRequest): StartPayload => {
  try {
    const parsed = startPayload.safeParse(JSON.parse(request.body.toString("utf8") || "{}"));
    if (parsed.success) return parsed.data;
    const field = parsed.error.issues[0]?.path.join(".") ?? "";
    throw new BrokerApiError("validation_error", `${field}: ${parsed.error.issues[0]?.message}`, {
      details: { field },
    });
  } catch (err) {
    if (err instanceof BrokerApiError) throw err;
    return startPayload.parse({});
  }
};

/** `POST /api/v1/agents/{a}/start` (spec/01 4.5): starts a stopped, suspended or only provisioned agent. */
export const startAgent: Operation = {
  method: "POST",
  path: "/api/v1/agents/:agent/start",
  turn: agentTurn,
  async run(call, context) {
    const { agents } = context;
    const start = readStart(call.request);
    const { SCION_AGENT_ID: id, SCION_AGENT_SLUG: slug, SCION_PROJECT_ID: projectId } = start.resolvedEnv;
    if (slug && projectId) await removeFormer(agentKey(projectId, slug), id, context);
    const record = agents.store.find(call.params.agent ?? "", projectOf(call.request));
    if (!record) return startUnknown(call, start, context);
    const session = await agents.session(record);
    // With a task the running one is replaced (spec/01 rule 6); without one it is what was asked for.
    if (session?.status === "running" && !start.task) {
      return { status: 202, json: { agent: agents.view(record, session, true), created: false } };
    }
    return { status: 202, json: await startRecord(record, start, context) };
  },
};

/** Starts a known agent with what the call brings on top of what is stored. */
export const startRecord = async (
  record: AgentRecord,
  start: StartPayload,
  context: OperationContext,
): Promise<{ agent: unknown; created: boolean }> => {
  const { agents } = context;
  const credentials = await context.credentials();
  const kept = await agents.store.environment(record.key);
  const { SCION_AUTH_TOKEN: token, ...given } = start.resolvedEnv;
  await agents.store.putEnvironment(record.key, {
    env: { ...kept.env, ...start.inlineConfig?.env, ...given },
    secrets: start.resolvedSecrets.length > 0 ? start.resolvedSecrets : kept.secrets,
  });
  const harness = start.harnessConfig ?? start.inlineConfig?.harness_config ?? record.harness;
  agents.harness(harness);
  const hubUrl = start.hubEndpoint ?? given.SCION_HUB_ENDPOINT;
  const next: AgentRecord = {
    ...record,
    harness,
    ...(!record.id && given.SCION_AGENT_ID && { id: given.SCION_AGENT_ID }),
    ...(start.inlineConfig?.image && { image: start.inlineConfig.image }),
    ...(hubUrl && { hubUrl: hubUrlForAgent(hubUrl, credentials.hubUrl) }),
  };
  const resume = start.resume || record.phase === "suspended";
  const launched = await agents.launch(
    { ...next, labels: agentLabels(next, credentials.brokerId) },
    // The task of the create is for the first start only.
    { task: start.task || (record.started || resume ? "" : record.task), resume, token },
  );
  return { agent: agents.view(launched.record, launched.session, true), created: false };
};

/**
 * An agent whose files are gone (deleted and restored since, or from another machine) is provisioned anew from what the
 * start brings.
 * @throws BrokerApiError 404 when that does not say who the agent is
 */
const startUnknown = async (
  { request, params }: OperationCall,
  start: StartPayload,
  context: OperationContext,
): Promise<OperationAnswer> => {
  const name = params.agent ?? "";
  const projectId = projectOf(request) || start.resolvedEnv.SCION_PROJECT_ID;
  const id = start.resolvedEnv.SCION_AGENT_ID;
  if (!projectId || !id) throw agentNotFound(name);
  const payload: CreatePayload = createPayload.parse({
    id,
    name,
    slug: start.resolvedEnv.SCION_AGENT_SLUG || name,
    projectId,
    resolvedEnv: start.resolvedEnv,
    resolvedSecrets: start.resolvedSecrets,
    inlineConfig: start.inlineConfig,
    projectPath: start.projectPath ?? start.grovePath,
    projectSlug: start.projectSlug ?? start.groveSlug,
    hubEndpoint: start.hubEndpoint,
    config: { task: start.task, harnessConfig: start.harnessConfig, sharedWorkspace: start.sharedWorkspace },
  });
  const key = agentKey(projectId, payload.slug ?? name);
  context.base.log.info({ agent: name, projectId, key }, "starting an agent that is not known here");
  const created = await startCreated(payload, context);
  return { status: 202, json: { ...(created.json as object), created: false } };
};
