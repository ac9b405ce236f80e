import { HubError, withoutCredentials } from "@rootstock/protocol";
import type { AppliedConfig, ConfigValues, ProjectRow } from "@rootstock/store";
import { z } from "zod";

/** What a create may ask for (spec/02 2.6, spec/08 1.4). Unknown fields are ignored, as the clients expect. */
const text = z.string().max(4096).nullish();

export const createAgentSchema = z.object({
  name: z.string().min(1).max(256),
  projectId: z.string().nullish(),
  groveId: z.string().nullish(),
  template: text,
  harnessConfig: text,
  harnessAuth: z.enum(["api-key", "oauth-token", "auth-file", "vertex-ai"]).or(z.literal("")).nullish(),
  profile: text,
  task: z.string().max(262_144).nullish(),
  branch: text,
  workspace: text,
  runtimeBrokerId: text,
  labels: z.record(z.string().max(256), z.string().max(4096)).nullish(),
  annotations: z.record(z.string().max(256), z.string().max(4096)).nullish(),
  config: z.record(z.string(), z.unknown()).nullish(),
  attach: z.boolean().nullish(),
  provisionOnly: z.boolean().nullish(),
  gatherEnv: z.boolean().nullish(),
  notify: z.boolean().nullish(),
  resume: z.boolean().nullish(),
  noAuth: z.boolean().nullish(),
  cleanupMode: z.enum(["strict", "force"]).or(z.literal("")).nullish(),
  workspaceFiles: z.array(z.object({ path: z.string(), size: z.number() })).nullish(),
  gcp_identity: z
    .object({
      metadata_mode: z.enum(["block", "passthrough", "assign"]).or(z.literal("")).nullish(),
      service_account_id: z.string().nullish(),
    })
    .nullish(),
});
export type CreateAgentRequest = z.output<typeof createAgentSchema>;

const SETTINGS = {
  template: "scion.io/default-template",
  harnessConfig: "scion.io/default-harness-config",
  max_turns: "scion.io/default-max-turns",
  max_model_calls: "scion.io/default-max-model-calls",
  max_duration: "scion.io/default-max-duration",
} as const;

const configText = (config: Readonly<Record<string, unknown>>, key: string): string | undefined => {
  const value = config[key];
  return typeof value === "string" && value !== "" ? value : undefined;
};

/** The template's name: as asked, else the project's default, else none. */
export const templateOf = (request: CreateAgentRequest, project: ProjectRow): string =>
  request.template || project.annotations[SETTINGS.template] || "";

/**
 * The agent's whole configuration, with the project's defaults where the request says nothing; apart from it, `values`,
 * what is for the container alone.
 */
export const configOf = (
  request: CreateAgentRequest,
  project: ProjectRow,
  creatorName: string,
): { readonly config: AppliedConfig; readonly values: ConfigValues } => {
  const inlineConfig = withLimits(request.config ?? {}, project);
  const harnessConfig =
    configText(inlineConfig, "harness_config") || request.harnessConfig || project.annotations[SETTINGS.harnessConfig];
  const harnessAuth = request.harnessAuth || configText(inlineConfig, "auth_selectedType");
  const image = configText(inlineConfig, "image");
  const model = configText(inlineConfig, "model");
  const gitClone = gitCloneOf(project, request.branch);
  const config: AppliedConfig = {
    ...(image && { image }),
    ...(harnessConfig && { harnessConfig }),
    ...(harnessAuth && { harnessAuth }),
    ...(model && { model }),
    ...(request.profile && { profile: request.profile }),
    ...(request.task && { task: request.task }),
    ...(request.attach && { attach: true }),
    ...(request.branch && { branch: request.branch }),
    ...(request.workspace && { workspace: request.workspace }),
    ...(gitClone && { gitClone }),
    ...(request.noAuth && { noAuth: true }),
    creatorName,
    gcpIdentity: { metadataMode: identityMode(request) },
  };
  return { config, values: Object.keys(inlineConfig).length > 0 ? { inlineConfig } : {} };
};

const withLimits = (
  config: Readonly<Record<string, unknown>>,
  project: ProjectRow,
): Readonly<Record<string, unknown>> => {
  const limits: Record<string, unknown> = {};
  for (const key of ["max_turns", "max_model_calls"] as const) {
    const limit = Number(project.annotations[SETTINGS[key]]);
    if (config[key] === undefined && Number.isInteger(limit) && limit > 0) limits[key] = limit;
  }
  const duration = project.annotations[SETTINGS.max_duration];
  if (config.max_duration === undefined && duration) limits.max_duration = duration;
  return { ...limits, ...config };
};

const gitCloneOf = (project: ProjectRow, _branch: string | null | undefined): AppliedConfig["gitClone"] => {
  if (!project.git_remote) return undefined;
  return {
    url: withoutCredentials(project.labels["scion.dev/clone-url"] ?? "") || `https://${project.git_remote}.git`,
    branch: project.labels["scion.dev/default-branch"] || "main",
    depth: 1,
  };
};

/** Cloud identities need service accounts, which are not configured; the other two modes need nothing. */
const identityMode = (request: CreateAgentRequest): "block" | "passthrough" => {
  const mode = request.gcp_identity?.metadata_mode || "block";
  if (mode !== "assign") return mode;
  throw new HubError("validation_error", "cloud service accounts are not configured on this hub", {
    details: { field: "gcp_identity.metadata_mode" },
  });
};
