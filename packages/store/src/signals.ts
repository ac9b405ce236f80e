import type { Uuid } from "@rootstock/protocol";
import { type ReadonlyWakes, Wakes } from "./wakes.ts";

/**
 * The wire form of signals (design section 6). A signal says "look" and carries ids only; it may be lost or doubled.
 * A payload is a row of tokens of 33 characters: one letter and the 32 digits of an id. Agents for which messages wait
 * follow the runtime broker where they run; a runtime broker without any is to be looked at as a whole. Where an intent
 * waits the letter is another one.
 */

/** Ids of runtime brokers and agents that have work, of what has ended or been delivered, and the probes of listeners. */
export const COMMANDS_CHANNEL = "rootstock_commands";
/** "There are new changes": without a payload, they are to be read at once. */
export const EVENTS_CHANNEL = "rootstock_events";
/** The payload when there is no hurry. */
export const UNHURRIED = "unhurried";

/** What a replica is told to look at. `everything`: at all that it cares about. */
export interface Commands {
  readonly wake: ReadonlyWakes;
  /** What has ended, one way or the other: its row says which. */
  readonly done: readonly Uuid[];
  /** Messages that their runtime brokers have taken: nothing is to be read to know how they ended. */
  readonly delivered: readonly Uuid[];
  readonly everything: boolean;
}

/** What a round of signals says. */
export type Told = Pick<Commands, "wake"> & {
  readonly done: Iterable<Uuid>;
  readonly delivered: Iterable<Uuid>;
};

export const LOOK_AT_EVERYTHING: Commands = { wake: new Wakes(), done: [], delivered: [], everything: true };

const EVERYTHING = "*";
const TOKEN_LENGTH = 33;
/** PostgreSQL refuses payloads of 8,000 bytes. */
const TOKENS_PER_PAYLOAD = 200;
/** Beyond this many payloads, ids cost more than the look at everything that they are to spare. */
const MAX_PAYLOADS = 5;

const token = (kind: "w" | "i" | "a" | "d" | "m" | "p", id: Uuid): string => kind + id.replaceAll("-", "");

/** Rows of tokens that must not be torn apart. */
const rows = ({ wake, done, delivered }: Told): string[][] => {
  const whole: string[][] = [];
  for (const [runtimeBrokerId, { intents, messages }] of wake) {
    // An agent is worth a token as long as there are few: many are told as the whole runtime broker.
    const agents = messages !== "any" && messages.size < TOKENS_PER_PAYLOAD ? [...messages] : undefined;
    if (intents && agents) whole.push([token("i", runtimeBrokerId)]);
    if (agents?.length !== 0) whole.push([token("w", runtimeBrokerId), ...(agents ?? []).map((id) => token("a", id))]);
  }
  for (const id of done) whole.push([token("d", id)]);
  for (const id of delivered) whole.push([token("m", id)]);
  return whole;
};

/** The payloads of one round of signals: none when there is nothing to say. */
export const encodeCommands = (told: Told): string[] => {
  const payloads: string[][] = [];
  for (const row of rows(told)) {
    const last = payloads.at(-1);
    if (last && last.length + row.length <= TOKENS_PER_PAYLOAD) last.push(...row);
    else payloads.push([...row]);
  }
  return payloads.length > MAX_PAYLOADS ? [EVERYTHING] : payloads.map((tokens) => tokens.join(""));
};

/** The payload with which a listener proves to itself that it hears. */
export const encodeProbe = (id: Uuid): string => token("p", id);

/** The whole at once: it is read by every replica, whoever it is for, and mostly for others. */
const TOKENS = /^(?:[wiadmp][0-9a-f]{32})*$/;

/** The id of the token that begins at `at`. */
const idAt = (payload: string, at: number): Uuid =>
  `${payload.slice(at + 1, at + 9)}-${payload.slice(at + 9, at + 13)}-${payload.slice(at + 13, at + 17)}-${payload.slice(at + 17, at + 21)}-${payload.slice(at + 21, at + TOKEN_LENGTH)}`;

/**
 * What a payload on {@link COMMANDS_CHANNEL} says. One that is not understood, from a newer replica or anybody else,
 * is taken as "look at everything": too much work is harmless, too little is not.
 */
export const decodeCommands = (payload: string): Commands & { readonly probes: readonly Uuid[] } => {
  const wake = new Wakes();
  const done: Uuid[] = [];
  const delivered: Uuid[] = [];
  const probes: Uuid[] = [];
  let runtimeBroker: { readonly id: Uuid; readonly agents: Uuid[] } | undefined;
  const woken = () => {
    if (runtimeBroker?.agents.length === 0) wake.add(runtimeBroker.id);
    for (const agentId of runtimeBroker?.agents ?? []) wake.addMessage(runtimeBroker?.id ?? "", agentId);
    runtimeBroker = undefined;
  };
  if (!TOKENS.test(payload)) return { ...LOOK_AT_EVERYTHING, probes };
  for (let i = 0; i < payload.length; i += TOKEN_LENGTH) {
    const id = idAt(payload, i);
    const letter = payload[i];
    if (letter === "a") {
      if (!runtimeBroker) return { ...LOOK_AT_EVERYTHING, probes };
      runtimeBroker.agents.push(id);
      continue;
    }
    woken();
    if (letter === "w") runtimeBroker = { id, agents: [] };
    else if (letter === "i") wake.addIntent(id);
    else if (letter === "d") done.push(id);
    else if (letter === "m") delivered.push(id);
    else probes.push(id);
  }
  woken();
  return { wake, done, delivered, probes, everything: payload.length === 0 };
};
