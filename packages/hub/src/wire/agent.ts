import type { AgentView, ConfigValues, StoredConfig } from "@rootstock/store";
import { z } from "zod";
import type { Capabilities } from "./capabilities.ts";
import { some, time, timeOrZero } from "./fields.ts";
import { anyObject, capabilitiesJson, count, id, labelsJson, timestamp } from "./schemas.ts";

/** What an agent runs with, as it was asked for and filled up (spec/02 2.3). */
const appliedConfigJson = z
  .object({
    image: z.string(),
    harnessConfig: z.string(),
    harnessAuth: z.string(),
    env: labelsJson,
    model: z.string(),
    profile: z.string(),
    task: z.string(),
    attach: z.boolean(),
    branch: z.string(),
    workspace: z.string(),
    gitClone: z.object({ url: z.string(), branch: z.string().optional(), depth: z.number().optional() }),
    creatorName: z.string(),
    inlineConfig: anyObject,
    noAuth: z.boolean(),
    gcpIdentity: z.object({
      metadataMode: z.enum(["block", "passthrough", "assign"]),
      serviceAccountId: z.string().optional(),
      serviceAccountEmail: z.string().optional(),
      projectId: z.string().optional(),
    }),
  })
  .partial()
  .meta({ id: "AppliedConfig" });

/** An agent as clients see it (spec/02 2.3, with the additions of spec/08 1.3). */
export const agentReply = z
  .object({
    id: id,
    slug: z.string(),
    name: z.string(),
    template: z.string(),
    projectId: id,
    groveId: id,
    project: z.string().optional(),
    visibility: z.string(),
    labels: labelsJson.optional(),
    annotations: labelsJson.optional(),
    phase: z.string().optional(),
    activity: z.string().optional(),
    toolName: z.string().optional(),
    message: z.string().optional(),
    taskSummary: z.string().optional(),
    stalledFromActivity: z.string().optional(),
    connectionState: z.string().optional(),
    containerStatus: z.string().optional(),
    runtimeState: z.string().optional(),
    exitCode: z.int().optional(),
    exitReason: z.string().optional(),
    currentTurns: count.optional(),
    currentModelCalls: count.optional(),
    startedAt: timestamp,
    lastSeen: timestamp,
    lastActivityEvent: timestamp,
    deletedAt: timestamp,
    image: z.string().optional(),
    runtime: z.string().optional(),
    runtimeBrokerId: id.optional(),
    runtimeBrokerName: z.string().optional(),
    harnessConfig: z.string().optional(),
    harnessAuth: z.string().optional(),
    createdBy: z.string().optional(),
    ownerId: z.string().optional(),
    detached: z.boolean(),
    webPtyEnabled: z.boolean().optional(),
    created: timestamp,
    updated: timestamp,
    stateVersion: count,
    ancestry: z.array(z.string()).readonly().optional(),
    appliedConfig: appliedConfigJson.optional(),
    _capabilities: capabilitiesJson.optional(),
  })
  .meta({ id: "Agent" });
export type AgentJson = z.infer<typeof agentReply>;

/** What an agent is busy with, as events have it and the answer to a restore (spec/02 2.7, 7.2). */
export const agentDetail = (a: AgentView) => ({
  ...some("toolName", a.tool_name),
  ...some("message", a.message),
  ...some("taskSummary", a.task_summary),
  ...some("currentTurns", a.current_turns),
  ...some("currentModelCalls", a.current_model_calls),
});

/** Activities that tell why an agent ended. */
const EXIT_REASONS = ["crashed", "limits_exceeded"];

/** A configuration without what is for the container alone, and without what is for the hub alone. */
const withoutValues = ({ env: _, inlineConfig: __, valuesVersion: ___, ...rest }: StoredConfig) => rest;

/**
 * The agent, and what the caller may do with it where that is shown. `values`: what its container is given, for whoever may
 * change the agent; who merely reads it, by its visibility or beside it, is not shown that.
 */
export const agentJson = (
  a: AgentView,
  { capabilities, values }: { readonly capabilities?: Capabilities; readonly values?: ConfigValues | undefined } = {},
): AgentJson => ({
  id: a.id,
  slug: a.slug,
  name: a.name,
  template: a.template,
  projectId: a.project_id,
  groveId: a.project_id,
  ...some("project", a.project_name),
  visibility: a.visibility,
  ...some("labels", a.labels),
  ...some("annotations", a.annotations),
  phase: a.phase,
  ...some("activity", a.activity),
  ...some("toolName", a.tool_name),
  ...some("message", a.message),
  ...some("taskSummary", a.task_summary),
  ...some("stalledFromActivity", a.stalled_from_activity),
  ...some("connectionState", a.connection_state),
  ...some("containerStatus", a.container_status),
  ...some("runtimeState", a.runtime_state),
  ...(a.exit_code !== null && { exitCode: a.exit_code }),
  ...some(
    "exitReason",
    EXIT_REASONS.find((reason) => reason === a.activity),
  ),
  ...some("currentTurns", a.current_turns),
  ...some("currentModelCalls", a.current_model_calls),
  startedAt: timeOrZero(a.started_at),
  lastSeen: timeOrZero(a.last_seen),
  lastActivityEvent: timeOrZero(a.last_activity_event),
  deletedAt: timeOrZero(a.deleted_at),
  ...some("image", a.image),
  // Until it has run, what it is going to run on: clients show it in their first list.
  ...some("runtime", a.runtime ?? a.likely_runtime),
  ...some("runtimeBrokerId", a.runtime_broker_id),
  ...some("runtimeBrokerName", a.runtime_broker_name),
  ...some("harnessConfig", a.applied_config.harnessConfig),
  ...some("harnessAuth", a.applied_config.harnessAuth),
  ...some("createdBy", a.created_by),
  ...some("ownerId", a.owner_id),
  detached: a.detached,
  ...some("webPtyEnabled", a.web_pty_enabled),
  created: time(a.created),
  updated: time(a.updated),
  stateVersion: a.state_version,
  ...some("ancestry", a.ancestry),
  ...some("appliedConfig", { ...withoutValues(a.applied_config), ...values }),
  ...(capabilities && { _capabilities: capabilities }),
});
