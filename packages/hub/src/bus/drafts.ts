import type { Uuid } from "@rootstock/protocol";
import type { AgentFacts, ChangeRow, MessageFacts, ProjectFacts, RuntimeBrokerFacts } from "@rootstock/store";
import type { Wanted } from "./interest.ts";

/** What an event tells. */
export type Values = Readonly<Record<string, unknown>>;

/** What the log does not hold, read for a whole batch. Undefined: it has gone since. */
export class Facts {
  readonly agents = new Map<Uuid, AgentFacts | undefined>();
  readonly projects = new Map<Uuid, ProjectFacts | undefined>();
  readonly runtimeBrokers = new Map<Uuid, RuntimeBrokerFacts | undefined>();
  readonly messages = new Map<Uuid, MessageFacts | undefined>();
}

/** An event without its place in the feed. */
export interface Draft {
  readonly part?: string;
  /** The project whose people are told, where that is not the change's own. */
  readonly projectId?: Uuid | null;
  /** With the old names of projects. */
  readonly subjects: readonly string[];
  readonly data: Values;
  readonly parties?: readonly Uuid[];
}

/** Makes the events of a row that are wanted. */
export type MakeDrafts = (row: ChangeRow, facts: Facts, wanted: Wanted) => readonly Draft[];

/** `values` without those that are absent, null, empty or zero: the clients leave them out as well. */
export const present = (values: Values): Values =>
  Object.fromEntries(Object.entries(values).filter(([, v]) => v !== undefined && v !== null && v !== "" && v !== 0));
