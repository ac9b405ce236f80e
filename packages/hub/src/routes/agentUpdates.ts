import { HubError, invalidField, notFound, type Phase, type Uuid } from "@rootstock/protocol";
import {
  type AgentRow,
  type AppliedConfig,
  agentById,
  changeAgent,
  type Db,
  findRuntimeBroker,
  lockAgent,
  recordAudit,
  type StoredConfig,
  transaction,
} from "@rootstock/store";
import { z } from "zod";
import type { Principal } from "../auth/index.ts";
import type { KeptConfig } from "../secrets/index.ts";
import { agentJson, agentReply, some } from "../wire/index.ts";
import { authenticated } from "./access.ts";
import type { ResourceDeps } from "./deps.ts";
import { labels, MAX_NAME, text } from "./fields.ts";
import { agentOf } from "./lookup.ts";
import { json, type Route, route } from "./route.ts";

/** What of a config is kept in fields of its own; the whole goes to the runtime broker as it came. */
const configSchema = z.looseObject({
  image: text(1024),
  model: text(256),
  task: text(262_144),
  harness_config: text(256),
  auth_selectedType: text(64),
  env: z
    .record(z.string().min(1).max(256), z.string().max(65_536))
    .nullish()
    .transform((env) => env ?? undefined),
});

const patchBody = z.object({
  name: text(MAX_NAME),
  labels,
  annotations: labels,
  taskSummary: text(4096),
  stateVersion: z.number().int().nullish(),
  config: configSchema.nullish(),
  gcp_identity: z.object({ metadata_mode: z.string(), service_account_id: text(256) }).nullish(),
});
type PatchBody = z.output<typeof patchBody>;

/** Phases in which no container runs, so that a changed config takes effect at the next start (spec/08 1.4). */
const CONFIGURABLE: readonly Phase[] = ["created", "stopped", "suspended", "error"];

/** Changing what is known of an agent (spec/02 2.7). Absent and empty fields stay as they are. */
export const agentUpdateRoutes = (deps: ResourceDeps): Route[] =>
  ["/api/v1/agents/:agentId", "/api/v1/projects/:projectId/agents/:agentId"].map((path) =>
    route({
      method: "PATCH",
      path,
      access: authenticated,
      does: { action: "update", on: "agent" },
      body: patchBody,
      summary: "Changes what is known of an agent",
      replies: { 200: agentReply },
      refuses: ["conflict", "unprocessable"],
      handler: async (call) => {
        const { id } = await agentOf(deps.db, call);
        const { config } = call.body;
        const kept = await deps.agentConfigs.kept(
          id,
          config ? { ...(config.env && { env: config.env }), inlineConfig: withoutAbsent(config) } : {},
        );
        await transaction(deps.db, (tx) => patch(tx, call.principal, id, call.body, kept));
        deps.changed();
        const agent = await agentById(deps.db, id);
        if (!agent) throw notFound("Agent");
        const shown = await deps.agentConfigs.shown([agent]);
        return json(200, agentJson(agent, { values: shown.get(id) }));
      },
    }),
  );

const patch = async (tx: Db, principal: Principal, id: Uuid, body: PatchBody, kept: KeptConfig): Promise<void> => {
  const agent = await lockAgent(tx, id);
  if (!agent) throw notFound("Agent");
  if (body.stateVersion && body.stateVersion !== agent.state_version)
    throw new HubError("conflict", "the agent was changed meanwhile: read it again", {
      details: { stateVersion: agent.state_version },
    });
  const config = await configured(tx, principal, agent, body);
  await changeAgent(tx, id, {
    ...some("name", body.name),
    ...(body.labels && { labels: JSON.stringify(body.labels) }),
    ...(body.annotations && { annotations: JSON.stringify(body.annotations) }),
    ...some("task_summary", body.taskSummary),
    ...(config && { applied_config: JSON.stringify(kept.over(config)) }),
    ...some("image", body.config?.image),
  });
  if (config) await kept.keep(tx);
  await recordAudit(tx, {
    action: "agent_changed",
    targetType: "agent",
    targetId: id,
    targetName: agent.slug,
    projectId: agent.project_id,
    details: changesOf(body),
  });
};

/** What was given, by name: the values are for the container, and may be secret. */
const changesOf = ({ config, stateVersion: _, ...rest }: PatchBody): Readonly<Record<string, readonly string[]>> => {
  const given = (of: object): string[] =>
    Object.entries(of)
      .flatMap(([key, value]) => (value === undefined || value === null ? [] : key))
      .sort();
  return { changed: given(rest), ...(config && { config: given(config) }) };
};

const configured = async (
  tx: Db,
  principal: Principal,
  agent: AgentRow,
  body: PatchBody,
): Promise<StoredConfig | undefined> => {
  const { config, gcp_identity: gcp } = body;
  if (!config && !gcp) return undefined;
  if (!CONFIGURABLE.includes(agent.phase))
    throw new HubError("conflict", "the config of an agent can only be changed while it does not run");
  return {
    ...agent.applied_config,
    ...(config && {
      ...some("image", config.image),
      ...some("model", config.model),
      ...some("task", config.task),
      ...some("harnessConfig", config.harness_config),
      ...some("harnessAuth", config.auth_selectedType),
    }),
    ...(gcp && { gcpIdentity: await gcpIdentity(tx, principal, agent, gcp.metadata_mode) }),
  };
};

const withoutAbsent = (config: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> =>
  Object.fromEntries(Object.entries(config).filter(([, value]) => value !== undefined));

/** Passing the machine's own identity through is for those who own the machine (spec/03 5.9). */
const gcpIdentity = async (
  tx: Db,
  principal: Principal,
  agent: AgentRow,
  mode: string,
): Promise<NonNullable<AppliedConfig["gcpIdentity"]>> => {
  switch (mode) {
    case "block":
      return { metadataMode: mode };
    case "passthrough": {
      const runtimeBroker = agent.runtime_broker_id && (await findRuntimeBroker(tx, agent.runtime_broker_id));
      const owns =
        principal.kind === "user" &&
        (principal.role === "admin" || (runtimeBroker && runtimeBroker.created_by === principal.id));
      if (!owns) throw new HubError("forbidden", "passthrough is for owners of the runtime broker and admins");
      return { metadataMode: mode };
    }
    case "assign":
      throw new HubError("unprocessable", "service accounts are not configured on this hub", {
        details: { field: "gcp_identity.metadata_mode" },
      });
    default:
      throw invalidField("gcp_identity.metadata_mode", "must be block, passthrough or assign");
  }
};
