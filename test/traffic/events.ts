import { differences } from "./compare.ts";
import { type Findings, subjectOf } from "./findings.ts";
import type { Ids } from "./ids.ts";
import type { Step, StreamedEvent } from "./steps.ts";

type EventStep = Step & StreamedEvent;

/** A text somewhere in an event or body; empty where there is none. */
const textAt = (value: unknown, ...path: readonly string[]): string => {
  let at = value;
  for (const key of path) at = typeof at === "object" && at !== null ? Reflect.get(at, key) : undefined;
  return typeof at === "string" ? at : "";
};

/** Which event it is: the same of ours has this in common. */
const identityOf = ({ event, data }: StreamedEvent): string =>
  [event, textAt(data, "subject"), textAt(data, "type"), textAt(data, "data", "agentId")].join(" ");

const nameOf = ({ event, data }: StreamedEvent): string =>
  subjectOf(textAt(data, "subject") || `${event} ${textAt(data, "type")}`);

/** Whether an event announces that this project was made. */
export const announcesProject = ({ data }: StreamedEvent, id: string): boolean =>
  textAt(data, "subject") === `project.${id}.created`;

/**
 * The recorded status events that tell nothing new: the original sends one for every agent in every heartbeat
 * (spec/02 10). News is what follows a report of the agent's tool that changes something, or differs from before.
 */
const repetitions = (steps: readonly Step[]): ReadonlySet<Step> => {
  const known = new Map<string, string>();
  const reported = new Set<string>();
  const repeated = new Set<Step>();
  for (const step of steps) {
    if (step.kind === "call" && step.path.startsWith("/events")) reported.clear();
    if (step.kind === "call" && step.agent && step.path.endsWith("/status")) {
      const state = stateOf(step.body, textAt(step.body, "message"));
      if (textAt(step.body, "phase") + textAt(step.body, "activity") === "") continue;
      if (known.get(step.agent) !== state) reported.add(step.agent);
      known.set(step.agent, state);
    }
    if (step.kind !== "event" || !textAt(step.data, "subject").endsWith(".agent.status")) continue;
    const data: unknown = Reflect.get(step.data as object, "data");
    const agent = textAt(data, "agentId");
    const state = stateOf(data, textAt(data, "detail", "message"));
    if (!reported.delete(agent) && known.get(agent) === state) repeated.add(step);
    known.set(agent, state);
  }
  return repeated;
};

const stateOf = (told: unknown, message: string): string =>
  [textAt(told, "phase") || "running", textAt(told, "activity"), message].join(" ");

/** Each recorded event must have one of ours with its subject and its fields; one that repeats, a further one. */
export const compareEvents = (
  steps: readonly Step[],
  streams: ReadonlyMap<string, readonly StreamedEvent[]>,
  ids: Ids,
  findings: Findings,
): void => {
  const events = steps.filter((s): s is EventStep => s.kind === "event");
  const repeated = repetitions(steps);
  const taken = new Set<StreamedEvent>();
  const find = (step: EventStep): readonly string[] => {
    let best: readonly string[] = ["does not come"];
    for (const ours of streams.get(step.conn) ?? []) {
      if (taken.has(ours) || identityOf(ours) !== ids.translate(identityOf(step))) continue;
      const found = [
        ...(step.id !== undefined && ours.id === undefined ? ["id is missing"] : []),
        ...differences(step.data, ours.data, ids, "data"),
      ];
      if (found.length === 0) {
        taken.add(ours);
        return [];
      }
      if (best.length > found.length || best[0] === "does not come") best = found;
    }
    return best;
  };
  for (const step of events.filter((s) => !repeated.has(s)))
    findings.add(step.flows, `event: ${nameOf(step)}`, find(step));
  for (const step of events.filter((s) => repeated.has(s)))
    findings.add(step.flows, `event: ${nameOf(step)}`, find(step).length === 0 ? [] : ["is not repeated"]);
};
