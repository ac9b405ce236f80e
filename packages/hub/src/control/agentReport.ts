import {
  ACTIVITIES,
  type Phase,
  parsePhase,
  phaseOrdinal,
  RUNNING_ACTIVITIES,
  TERMINAL_ACTIVITIES,
} from "@rootstock/protocol";
import type { AgentPatch, AgentState } from "@rootstock/store";

/**
 * What a report about an agent changes: the rules of spec/01 5.2 (reports of its runtime broker) and spec/02 2.4 (its
 * own reports). Pure: the stored state and the report in, a patch out.
 */

export interface AgentReport {
  /** Who says it: the machine that runs it, from outside, or the agent's own tool, from inside. */
  readonly source: "runtimeBroker" | "agent";
  /** The run that the agent speaks from; undefined where its token does not say, and for runtime brokers. */
  readonly runId?: string | undefined;
  readonly phase?: string | undefined;
  readonly activity?: string | undefined;
  readonly toolName?: string | undefined;
  readonly message?: string | undefined;
  readonly containerStatus?: string | undefined;
  readonly connectionState?: string | undefined;
  readonly runtimeState?: string | undefined;
  readonly taskSummary?: string | undefined;
  readonly exitCode?: number | undefined;
  readonly currentTurns?: number | undefined;
  readonly currentModelCalls?: number | undefined;
  /** RFC 3339. */
  readonly startedAt?: string | undefined;
  /** Kept where nothing is stored yet. */
  readonly harnessAuth?: string | undefined;
  readonly profile?: string | undefined;
}

/**
 * How long after a run was opened its runtime broker may still report the container of the run before: an unmodified
 * one starts a container for seconds, and its heartbeat goes its own way meanwhile.
 */
const LAUNCH_GRACE_MS = 120_000;
const LAUNCHING: readonly Phase[] = ["provisioning", "cloning", "starting"];
const HALTED: readonly Phase[] = ["stopped", "error"];

type Draft = { -readonly [K in keyof AgentPatch]: AgentPatch[K] };

/** What `report` changes in an agent that is as `stored`; empty when it changes nothing but when it was last seen. */
export const applyReport = (stored: AgentState, report: AgentReport): AgentPatch => {
  if (isOfTheRunBefore(stored, report) || isOfAnotherRun(stored, report)) return {};
  const draft: Draft = facts(stored, report);
  const said = report.source === "runtimeBroker" ? saidFromOutside(stored, report) : saidFromInside(stored, report);
  const phase = said.phase === stored.phase ? undefined : said.phase;
  if (phase !== undefined) enterPhase(draft, stored, phase);
  if (said.activity !== undefined) writeActivity(draft, stored, report, said.activity, phase ?? stored.phase);
  else if (phase !== undefined && HALTED.includes(phase)) dropActivity(draft, stored);
  if (said.message !== undefined && draft.message == null && stored.message !== said.message)
    draft.message = said.message;
  return draft;
};

/** What the rules make of a report's phase and activity; undefined where they drop it. */
interface Said {
  readonly phase?: Phase | undefined;
  readonly activity?: string | undefined;
  /** What to say where the report itself says nothing. */
  readonly message?: string | undefined;
}

const saidFromOutside = (stored: AgentState, report: AgentReport): Said => {
  const activity = knownActivity(report.activity);
  if (stored.phase === "suspended") return {};
  if (HALTED.includes(stored.phase)) {
    const ended = activity !== undefined && TERMINAL_ACTIVITIES.includes(activity) && activity !== stored.activity;
    return ended ? { activity } : {};
  }
  const reported = parsePhase(report.phase) ?? phaseOfContainer(stored, report);
  const exitCode = exitCodeOf(report);
  const crashed = reported === "stopped" && exitCode !== undefined && exitCode !== 0;
  const phase = crashed ? "error" : reported;
  const news =
    activity !== undefined &&
    activity !== stored.activity &&
    !(stored.activity === "stalled" && activity === stored.stalledFromActivity);
  return {
    phase: phase !== undefined && goesBack(stored.phase, phase) ? undefined : phase,
    activity: news ? activity : undefined,
    message: crashed && !report.message ? `Agent crashed with exit code ${exitCode}` : undefined,
  };
};

const saidFromInside = (stored: AgentState, report: AgentReport): Said => {
  if (stored.phase === "suspended") return {};
  const activity = knownActivity(report.activity);
  const reported = parsePhase(report.phase);
  const phase = reported !== undefined && goesBack(stored.phase, reported) ? undefined : reported;
  const implied =
    phase === undefined &&
    activity !== undefined &&
    RUNNING_ACTIVITIES.includes(activity) &&
    phaseOrdinal(stored.phase) > 0;
  return { phase: implied ? "running" : phase, activity };
};

/** Both on the way up, and the reported one lower: a report that was overtaken. */
const goesBack = (stored: Phase, reported: Phase): boolean =>
  phaseOrdinal(reported) > 0 && phaseOrdinal(stored) > 0 && phaseOrdinal(reported) < phaseOrdinal(stored);

/** An older runtime broker reports no phase, only what its container engine says. */
const phaseOfContainer = (stored: AgentState, report: AgentReport): Phase | undefined => {
  if (report.phase) return undefined;
  const status = report.containerStatus?.trim().toLowerCase() ?? "";
  if (status.startsWith("up") || status === "running") return "running";
  if (status.startsWith("exited") || status === "stopped") return "stopped";
  return status === "created" && stored.phase !== "running" ? "provisioning" : undefined;
};

const EXITED = /^exited \((\d{1,5})\)/i;

/** The exit code that the report gives, or that the container engine's words tell. */
const exitCodeOf = (report: AgentReport): number | undefined => {
  if (report.exitCode !== undefined) return report.exitCode;
  const told = EXITED.exec(report.containerStatus?.trim() ?? "")?.[1];
  return told === undefined ? undefined : Number(told);
};

/** From the first of the spaces before it: tried from each of them, thousands would take seconds. */
const SINCE = /(?<! ) *\b(about |less than )?(an?|\d+) (second|minute|hour|day|week|month|year)s?( ago)?/gi;

/** Container engines say how long ago: that alone is no news. The database's `container_state` reads it likewise. */
const isSameStatus = (said: string, stored: string | null): boolean =>
  said === stored || said.replace(SINCE, "") === stored?.replace(SINCE, "");

/** The status that a report without news tells with another duration than before; undefined where it does not. */
export const refreshedStatus = (
  stored: Pick<AgentState, "containerStatus">,
  report: AgentReport,
): string | undefined => {
  const said = report.containerStatus;
  return said && said !== stored.containerStatus && isSameStatus(said, stored.containerStatus) ? said : undefined;
};

const isOfTheRunBefore = (stored: AgentState, report: AgentReport): boolean => {
  if (report.source !== "runtimeBroker" || !LAUNCHING.includes(stored.phase)) return false;
  if (stored.sinceChangeMs >= LAUNCH_GRACE_MS) return false;
  const phase = parsePhase(report.phase) ?? phaseOfContainer(stored, report);
  return phase === "stopped" || phase === "error";
};

/**
 * Whether an agent's report comes from a run that is over: it would revive an agent that was stopped, or end the run that
 * has just begun. Runtime brokers may keep a container that they are asked to start; so what says that a running agent
 * goes on counts whatever its token says.
 */
export const isOfAnotherRun = (stored: Pick<AgentState, "runId" | "phase">, report: AgentReport): boolean => {
  if (report.runId === undefined || report.runId === stored.runId) return false;
  return stored.phase !== "running" || (report.phase !== undefined && report.phase !== "running");
};

const knownActivity = (activity: string | undefined): string | undefined =>
  ACTIVITIES.find((known) => known === activity);

/** What is taken over as it is said, where it differs. Empty text says nothing. */
const facts = (stored: AgentState, report: AgentReport): Draft => {
  const draft: Draft = {};
  if (report.message && report.message !== stored.message) draft.message = report.message;
  if (report.containerStatus && !isSameStatus(report.containerStatus, stored.containerStatus))
    draft.containerStatus = report.containerStatus;
  if (report.connectionState && report.connectionState !== stored.connectionState)
    draft.connectionState = report.connectionState;
  if (report.runtimeState && report.runtimeState !== stored.runtimeState) draft.runtimeState = report.runtimeState;
  if (report.taskSummary && report.taskSummary !== stored.taskSummary) draft.taskSummary = report.taskSummary;
  if (report.currentTurns !== undefined && report.currentTurns !== stored.currentTurns)
    draft.currentTurns = report.currentTurns;
  if (report.currentModelCalls !== undefined && report.currentModelCalls !== stored.currentModelCalls)
    draft.currentModelCalls = report.currentModelCalls;
  if (report.startedAt && Date.parse(report.startedAt) !== stored.startedAt?.getTime())
    draft.startedAt = report.startedAt;
  if (report.harnessAuth && !stored.harnessAuth) draft.harnessAuth = report.harnessAuth;
  if (report.profile && !stored.profile) draft.profile = report.profile;
  const exitCode = exitCodeOf(report);
  if (exitCode !== undefined && exitCode !== stored.exitCode) draft.exitCode = exitCode;
  return draft;
};

const enterPhase = (draft: Draft, stored: AgentState, phase: Phase): void => {
  draft.phase = phase;
  if (phase === "running") {
    draft.running = "now";
    if (stored.exitCode !== null) draft.exitCode = null;
    if (!HALTED.includes(stored.phase)) return;
    if (stored.stalledFromActivity !== null) draft.stalledFromActivity = null;
    if (draft.message === undefined && stored.message !== null) draft.message = null;
  } else if (phaseOrdinal(phase) === 0 && phase !== "stopping") draft.running = "none";
};

const writeActivity = (draft: Draft, stored: AgentState, report: AgentReport, activity: string, phase: Phase): void => {
  const keepsItsEnd =
    stored.phase === "stopped" &&
    stored.activity !== null &&
    TERMINAL_ACTIVITIES.includes(stored.activity) &&
    !TERMINAL_ACTIVITIES.includes(activity);
  if (!keepsItsEnd && activity !== stored.activity) draft.activity = activity;
  if (stored.stalledFromActivity !== null) draft.stalledFromActivity = null;
  const toolName = report.toolName || null;
  if (toolName !== stored.toolName) draft.toolName = toolName;
  draft.activityStamped = true;
  if (report.source === "agent" && phase === "running" && (!stored.ready || draft.running === "now"))
    draft.listens = true;
};

const dropActivity = (draft: Draft, stored: AgentState): void => {
  if (stored.activity !== null && !TERMINAL_ACTIVITIES.includes(stored.activity)) draft.activity = null;
  if (stored.stalledFromActivity !== null) draft.stalledFromActivity = null;
  if (stored.toolName !== null) draft.toolName = null;
};
