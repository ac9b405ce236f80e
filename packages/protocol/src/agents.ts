/** Phases of an agent (spec/02 2.4). The ordinal orders the active ones; the others have none. */
export const PHASES = [
  "created",
  "provisioning",
  "cloning",
  "starting",
  "running",
  "suspended",
  "stopping",
  "stopped",
  "error",
] as const;
export type Phase = (typeof PHASES)[number];

const ACTIVE_ORDINAL: Partial<Record<Phase, number>> = {
  created: 1,
  provisioning: 2,
  cloning: 3,
  starting: 4,
  running: 5,
};

/** 1 to 5 for created … running, 0 for a phase that is not on the way up. */
export const phaseOrdinal = (phase: Phase): number => ACTIVE_ORDINAL[phase] ?? 0;

/**
 * The phase that a runtime broker or a container reports, as it is stored: the original's runtime broker reports
 * `resumed` for a resumed container, which is no phase (spec/01 rule 9). Undefined for anything unknown.
 */
export const parsePhase = (text: string | undefined): Phase | undefined =>
  text === "resumed" ? "running" : PHASES.find((p) => p === text);

export const ACTIVITIES = [
  "working",
  "thinking",
  "executing",
  "waiting_for_input",
  "blocked",
  "completed",
  "limits_exceeded",
  "crashed",
  "stalled",
  "offline",
] as const;
export type Activity = (typeof ACTIVITIES)[number];

/** Activities that survive a stop (spec/02 2.4). */
export const TERMINAL_ACTIVITIES: readonly string[] = ["crashed", "limits_exceeded"];

/** Activities that only a running agent can have: a report of one implies the phase `running`. */
export const RUNNING_ACTIVITIES: readonly string[] = [
  "working",
  "thinking",
  "executing",
  "waiting_for_input",
  "blocked",
  "completed",
];
