import { type AgentEnvironment, type AgentRecord, agentKey } from "../agents/agentRecord.ts";
import { PROFILE } from "../agents/agentView.ts";
import type { CreatePayload } from "../agents/createPayload.ts";
import { harnessName } from "../agents/envGather.ts";
import { agentLabels } from "../agents/labels.ts";
import { hubUrlForAgent, metadataEnv, parsePairs } from "../agents/launchEnv.ts";
import { workspacePath } from "../agents/workspace.ts";
import type { OperationContext } from "./operation.ts";

/**
 * The record and the environment of a create. An agent that exists keeps what it was given before where the call is
 * silent: values gathered from a person's environment are not sent again.
 * @throws BrokerApiError 400 for an unknown harness or an impossible project name
 */
export const applyCreate = async (
  payload: CreatePayload,
  context: OperationContext,
): Promise<{ record: AgentRecord; environment: AgentEnvironment }> => {
  const { agents, config } = context;
  const slug = (payload.slug ?? payload.name).toLowerCase();
  const key = agentKey(payload.projectId, slug);
  const existing = agents.store.get(key);
  const details = payload.config;
  const projectSlug = payload.projectSlug ?? payload.groveSlug ?? existing?.projectSlug ?? payload.projectId;
  const harness = harnessName({ config: details?.harnessConfig, inline: payload.inlineConfig?.harness_config }, config);
  agents.harness(harness);
  const shared = details?.sharedWorkspace || payload.workspaceMode === "shared";
  const projectPath = payload.projectPath ?? payload.grovePath;
  const credentials = await context.credentials();
  const image = details?.image ?? payload.inlineConfig?.image;
  const clone = details?.gitClone;
  const record: AgentRecord = {
    key,
    slug,
    name: payload.name,
    projectId: payload.projectId,
    projectSlug,
    harness,
    profile: PROFILE,
    workspace: await workspacePath({ stateDirectory: config.stateDirectory, key, projectSlug, projectPath, shared }),
    labels: {},
    task: details?.task ?? "",
    started: false,
    phase: "created",
    hubUrl: hubUrlForAgent(payload.hubEndpoint ?? payload.resolvedEnv.SCION_HUB_ENDPOINT, credentials.hubUrl),
    createdAt: existing?.createdAt ?? context.base.clock.now(),
    updatedAt: context.base.clock.now(),
    ...(payload.id && { id: payload.id }),
    ...(payload.userId && { userId: payload.userId }),
    ...(payload.creatorName && { creatorName: payload.creatorName }),
    ...(payload.noAuth && { noAuth: true }),
    ...(payload.requestId && { createRequestId: payload.requestId }),
    ...(details?.template && { template: details.template }),
    ...(details?.harnessAuth && { harnessAuth: details.harnessAuth }),
    ...(image && { image }),
    ...(details?.branch && { branch: details.branch }),
    ...(clone && {
      gitClone: {
        url: clone.url,
        ...(clone.branch && { branch: clone.branch }),
        ...(typeof clone.depth === "number" && { depth: clone.depth }),
      },
    }),
  };
  const kept = existing ? await agents.store.environment(key) : { env: {}, secrets: [] };
  const { SCION_AUTH_TOKEN: _, ...given } = {
    ...kept.env,
    ...payload.inlineConfig?.env,
    ...metadataEnv(details?.gcpIdentity),
    ...payload.resolvedEnv,
    ...parsePairs(details?.env),
  };
  const secrets = payload.resolvedSecrets.length > 0 ? payload.resolvedSecrets : kept.secrets;
  return {
    record: { ...record, labels: agentLabels(record, credentials.brokerId) },
    environment: { env: given, secrets },
  };
};
