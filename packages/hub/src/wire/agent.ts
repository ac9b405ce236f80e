import type { AgentView, AppliedConfig, Labels } from "@rootstock/store";
import type { Capabilities } from "./capabilities.ts";
import { some, time, timeOrZero } from "./fields.ts";

/** An agent as clients see it (spec/02 2.3, with the additions of spec/08 1.3). */
export interface AgentJson {
  readonly id: string;
  readonly slug: string;
  readonly name: string;
  readonly template: string;
  readonly projectId: string;
  readonly groveId: string;
  readonly project?: string;
  readonly visibility: string;
  readonly labels?: Labels;
  readonly annotations?: Labels;
  readonly phase?: string;
  readonly activity?: string;
  readonly toolName?: string;
  readonly message?: string;
  readonly taskSummary?: string;
  readonly stalledFromActivity?: string;
  readonly connectionState?: string;
  readonly containerStatus?: string;
  readonly runtimeState?: string;
  readonly exitCode?: number;
  readonly exitReason?: string;
  readonly currentTurns?: number;
  readonly currentModelCalls?: number;
  readonly startedAt: string;
  readonly lastSeen: string;
  readonly lastActivityEvent: string;
  readonly deletedAt: string;
  readonly image?: string;
  readonly runtime?: string;
  readonly runtimeBrokerId?: string;
  readonly runtimeBrokerName?: string;
  readonly harnessConfig?: string;
  readonly harnessAuth?: string;
  readonly createdBy?: string;
  readonly ownerId?: string;
  readonly detached: boolean;
  readonly webPtyEnabled?: boolean;
  readonly created: string;
  readonly updated: string;
  readonly stateVersion: number;
  readonly ancestry?: readonly string[];
  readonly appliedConfig?: AppliedConfig;
  readonly _capabilities?: Capabilities;
}

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

/** The agent, and what the caller may do with it where that is shown. */
export const agentJson = (a: AgentView, capabilities?: Capabilities): AgentJson => ({
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
  ...some("appliedConfig", a.applied_config),
  ...(capabilities && { _capabilities: capabilities }),
});
