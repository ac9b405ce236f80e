import type { Uuid } from "@rootstock/protocol";

/**
 * The wire form of signals (design section 6). A signal says "look" and carries ids only; it may be lost or doubled.
 * A payload is a row of tokens of 33 characters: one letter and the 32 digits of an id.
 */

/** Ids of runtime brokers that have work, of dispatches that ended, and the probes of listeners. */
export const COMMANDS_CHANNEL = "rootstock_commands";
/** "There are new changes", without a payload. */
export const EVENTS_CHANNEL = "rootstock_events";

/** What a replica is told to look at. `everything`: at all that it cares about. */
export interface Commands {
  readonly wake: readonly Uuid[];
  readonly done: readonly Uuid[];
  readonly everything: boolean;
}

export const LOOK_AT_EVERYTHING: Commands = { wake: [], done: [], everything: true };

const EVERYTHING = "*";
const TOKEN_LENGTH = 33;
/** PostgreSQL refuses payloads of 8,000 bytes. */
const TOKENS_PER_PAYLOAD = 200;
/** Beyond this many payloads, ids cost more than the look at everything that they are to spare. */
const MAX_PAYLOADS = 5;

const token = (kind: "w" | "d" | "p", id: Uuid): string => kind + id.replaceAll("-", "");

/** The payloads of one round of signals: none when there is nothing to say. */
export const encodeCommands = (wake: Iterable<Uuid>, done: Iterable<Uuid>): string[] => {
  const tokens = [...[...wake].map((id) => token("w", id)), ...[...done].map((id) => token("d", id))];
  if (tokens.length > TOKENS_PER_PAYLOAD * MAX_PAYLOADS) return [EVERYTHING];
  const payloads: string[] = [];
  for (let i = 0; i < tokens.length; i += TOKENS_PER_PAYLOAD)
    payloads.push(tokens.slice(i, i + TOKENS_PER_PAYLOAD).join(""));
  return payloads;
};

/** The payload with which a listener proves to itself that it hears. */
export const encodeProbe = (id: Uuid): string => token("p", id);

const TOKEN = /^[wdp][0-9a-f]{32}$/;

const idOf = (text: string): Uuid =>
  [text.slice(1, 9), text.slice(9, 13), text.slice(13, 17), text.slice(17, 21), text.slice(21)].join("-");

/**
 * What a payload on {@link COMMANDS_CHANNEL} says. One that is not understood, from a newer replica or anybody else,
 * is taken as "look at everything": too much work is harmless, too little is not.
 */
export const decodeCommands = (payload: string): Commands & { readonly probes: readonly Uuid[] } => {
  const wake: Uuid[] = [];
  const done: Uuid[] = [];
  const probes: Uuid[] = [];
  for (let i = 0; i < payload.length; i += TOKEN_LENGTH) {
    const text = payload.slice(i, i + TOKEN_LENGTH);
    if (!TOKEN.test(text)) return { ...LOOK_AT_EVERYTHING, probes };
    (text[0] === "w" ? wake : text[0] === "d" ? done : probes).push(idOf(text));
  }
  return { wake, done, probes, everything: payload.length === 0 };
};
