import { HubError } from "@rootstock/protocol";
import type { StreamEnd } from "../control/index.ts";

/** How the socket of a viewer is closed (spec/08 1.6). */
export interface ViewerClose {
  readonly code: number;
  /** At most 123 bytes of UTF-8. */
  readonly reason: string;
}

/** The way to the runtime broker is gone; current clients come back by themselves. */
const RECONNECT = 4503;
const INTERNAL = 1011;
const NOT_FOUND = 4404;
const MAX_REASON_BYTES = 123;

/** Reasons with which a stream ends that was lost on the way; all of them tell the client to come back. */
export const LOST = {
  /** The runtime broker's socket, or the replica that held it, is gone. */
  brokerDisconnected: "broker_disconnected",
  /** What was under way between replicas is gone. */
  dropped: "runtime_stream_dropped",
  /** This replica stops. */
  shuttingDown: "runtime_unavailable",
} as const;

export const SLOW_CONSUMER: ViewerClose = { code: 1013, reason: "slow_consumer" };
export const INPUT_OVERFLOW: ViewerClose = { code: 1009, reason: "input_overflow" };
export const INVALID_FRAME: ViewerClose = { code: 4400, reason: "invalid_message" };
/** What has proved who looks has run out, or was taken back. */
export const EXPIRED: ViewerClose = { code: 4401, reason: "authz_expired" };
/** What access was granted by no longer holds, by the status that the same call would get now. */
export const NO_LONGER_ALLOWED: Readonly<Record<number, ViewerClose>> = {
  401: EXPIRED,
  403: { code: 4403, reason: "forbidden" },
  404: { code: NOT_FOUND, reason: "agent_not_found" },
  // What proves nothing, at an address where too much did (limits/).
  429: EXPIRED,
};

/** How somebody is sent away who would be refused now. Rejects for reasons that are not theirs. */
export const refusalOf = async (asking: Promise<unknown>): Promise<ViewerClose | undefined> => {
  try {
    await asking;
    return undefined;
  } catch (err) {
    const close = err instanceof HubError ? NO_LONGER_ALLOWED[err.status] : undefined;
    if (!close) throw err;
    return close;
  }
};

/** Nothing was typed and nothing shown for the configured time. */
export const IDLE: ViewerClose = { code: 4408, reason: "idle_timeout" };
/** The session has lasted as long as the configuration allows. */
export const TIME_LIMIT: ViewerClose = { code: 4408, reason: "time_limit" };

/** The close of a viewer whose stream ended so: 0 is a clean end, 404 has a code of its own, what is no close code is an error. */
export const closeOf = ({ code, reason }: StreamEnd): ViewerClose => {
  if (code === undefined) return closing(RECONNECT, isLost(reason) ? reason : LOST.brokerDisconnected);
  if (code === 0) return closing(1000, reason);
  if (code === 404) return closing(NOT_FOUND, "agent_not_found");
  return isCloseCode(code) ? closing(code, reason) : closing(INTERNAL, "internal_error");
};

/** Codes after which a client neither ends quietly nor may come back: those are explained in words. */
export const isFinal = (code: number): boolean =>
  (code >= 4000 && code < 4500) || code === 4501 || [1002, 1003, 1007, 1008, 1009, 1010].includes(code);

/** Codes after which a client should try again by itself (spec/08 1.6). */
export const mayComeBack = (code: number): boolean => [RECONNECT, 4504, INTERNAL].includes(code);

/** The word of the attach protocol for a final close code (spec/06 1.7). */
export const errorCodeOf = (code: number): string => {
  if (code === NOT_FOUND) return "agent_not_found";
  if (code === 4401 || code === 4403) return "auth_failed";
  if (code === INVALID_FRAME.code || code === INPUT_OVERFLOW.code) return "invalid_message";
  return code === IDLE.code ? "timeout" : "stream_failed";
};

const isLost = (reason: string): boolean => Object.values(LOST).some((known) => known === reason);

/** Whether RFC 6455 lets a code be sent: the others of its range say what was observed, not what was meant. */
const isCloseCode = (code: number): boolean =>
  (code >= 1000 && code <= 1014 && ![1004, 1005, 1006].includes(code)) || (code >= 4000 && code <= 4999);

const closing = (code: number, reason: string): ViewerClose => ({ code, reason: shortened(reason) });

/** Cut between characters. */
const shortened = (text: string): string => {
  // None takes less than a byte. What follows is as long as somebody else's machine likes.
  const characters = Array.from(text.slice(0, MAX_REASON_BYTES));
  while (Buffer.byteLength(characters.join("")) > MAX_REASON_BYTES) characters.pop();
  return characters.join("");
};
