import { transportEnv } from "../../auth/index.ts";
import type { GivenValues } from "./givenValues.ts";
import type { OperationContext } from "./operation.ts";

/** Bodies of create and start (spec/01 4.2 and 4.5, spec/08 2.4). Both names of a project go along: each end reads its own. */

const projectFields = ({ target }: OperationContext): Record<string, unknown> => ({
  ...(target.localPath
    ? { projectPath: target.localPath, grovePath: target.localPath }
    : { projectSlug: target.project.slug, groveSlug: target.project.slug }),
});

/** What the container is told of itself and of the hub, beside the values given to it. */
const resolvedEnv = async (context: OperationContext, given: GivenValues): Promise<Record<string, string>> => {
  const transport = await context.transportToken();
  const identity = context.target.agent.applied_config.gcpIdentity;
  return {
    ...given.config.env,
    ...given.kept,
    SCION_METADATA_MODE: identity?.metadataMode ?? "block",
    // Without it a newer runtime broker lowers any elevated mode to `block`.
    SCION_METADATA_MODE_SOURCE: "hub",
    ...(identity?.serviceAccountEmail && { SCION_METADATA_SA_EMAIL: identity.serviceAccountEmail }),
    ...(identity?.projectId && { SCION_METADATA_PROJECT_ID: identity.projectId }),
    ...transportEnv(transport),
  };
};

const workspaceMode = ({ target }: OperationContext): string | undefined =>
  target.project.labels["scion.dev/workspace-mode"];

const text = (value: unknown): string | undefined => (typeof value === "string" && value !== "" ? value : undefined);

/** The body of `POST /api/v1/agents`. */
export const createPayload = async (
  context: OperationContext,
  given: GivenValues,
  options: { readonly requestId: string; readonly gatherEnv: boolean },
): Promise<object> => {
  const { agent, project } = context.target;
  const config = agent.applied_config;
  const hubEndpoint = text(context.args.hubEndpoint);
  const mode = workspaceMode(context);
  const identity = config.gcpIdentity;
  return {
    requestId: options.requestId,
    id: agent.id,
    runId: agent.run_id,
    slug: agent.slug,
    name: agent.name,
    projectId: project.id,
    groveId: project.id,
    ...(agent.ancestry[0] && { userId: agent.ancestry[0] }),
    config: {
      ...(agent.template && { template: agent.template }),
      ...(config.harnessConfig && { harnessConfig: config.harnessConfig }),
      ...(config.harnessAuth && { harnessAuth: config.harnessAuth }),
      ...(config.image && { image: config.image }),
      ...(config.profile && { profile: config.profile }),
      ...(config.task && { task: config.task }),
      ...(config.branch && { branch: config.branch }),
      ...(config.workspace && !context.target.localPath && { workspace: config.workspace }),
      ...(config.gitClone && { gitClone: config.gitClone }),
      ...(mode === "shared" && { sharedWorkspace: true }),
      gcpIdentity: {
        metadata_mode: identity?.metadataMode ?? "block",
        ...(identity?.serviceAccountEmail && { sa_email: identity.serviceAccountEmail }),
        ...(identity?.projectId && { project_id: identity.projectId }),
      },
    },
    resolvedEnv: await resolvedEnv(context, given),
    ...(given.config.inlineConfig && { inlineConfig: given.config.inlineConfig }),
    ...(hubEndpoint && { hubEndpoint }),
    agentToken: await context.mintAgentToken(context.target),
    ...(config.creatorName && { creatorName: config.creatorName }),
    ...(config.attach && { attach: true }),
    ...(config.noAuth && { noAuth: true }),
    ...(options.gatherEnv && { gatherEnv: true }),
    ...(context.args.provisionOnly === true && { provisionOnly: true }),
    ...(project.sharedDirs.length > 0 && { sharedDirs: project.sharedDirs }),
    ...(mode && { workspaceMode: mode }),
    // Absent, a newer runtime broker takes the git credentials out of the container.
    allowGitCredentials: true,
    ...projectFields(context),
  };
};

/** The body of `POST /api/v1/agents/{slug}/start`. */
export const startPayload = async (context: OperationContext, given: GivenValues, resume: boolean): Promise<object> => {
  const { agent, project } = context.target;
  const config = agent.applied_config;
  const hubEndpoint = text(context.args.hubEndpoint);
  const task = text(context.args.task) ?? (resume ? undefined : config.task);
  const mode = workspaceMode(context);
  return {
    ...(task && { task }),
    ...(agent.run_id && { runId: agent.run_id }),
    ...projectFields(context),
    ...(config.harnessConfig && { harnessConfig: config.harnessConfig }),
    ...(given.config.inlineConfig && { inlineConfig: given.config.inlineConfig }),
    resolvedEnv: {
      ...(await resolvedEnv(context, given)),
      SCION_AGENT_ID: agent.id,
      SCION_AGENT_SLUG: agent.slug,
      SCION_PROJECT_ID: project.id,
      SCION_GROVE_ID: project.id,
      ...(hubEndpoint && { SCION_HUB_ENDPOINT: hubEndpoint }),
      SCION_AUTH_TOKEN: await context.mintAgentToken(context.target),
    },
    ...(hubEndpoint && { hubEndpoint }),
    ...(project.sharedDirs.length > 0 && { sharedDirs: project.sharedDirs }),
    // Read anew at every start: left out, a shared workspace silently becomes the agent's own.
    ...(mode === "shared" && { sharedWorkspace: true }),
    ...(mode && { workspaceMode: mode }),
    ...(config.gitClone && { gitClone: config.gitClone }),
    ...(config.branch && { branch: config.branch }),
    allowGitCredentials: true,
    ...(resume && { resume: true }),
  };
};
