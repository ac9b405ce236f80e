import { z } from "zod";
import type { KeepaliveTimes } from "./keepalive.ts";

/** Where replicas dial each other for calls: one socket for all calls of one replica to another, JSON in text messages. */
export const INTERNAL_CALLS_PATH = "/internal/v1/calls";

/** What a call came to, with the statuses of HTTP. */
export interface PeerAnswer {
  readonly status: number;
  readonly body: unknown;
}

/** From the replica that dialled. Ids are its own, and are not used twice over one socket. */
export const callFrame = z.object({ id: z.number().int().min(1), call: z.string().min(1), body: z.unknown() });
export type CallFrame = z.infer<typeof callFrame>;

/** From the replica that was dialled, in any order. */
export const answerFrame = z.object({ id: z.number().int().min(1), status: z.number().int(), body: z.unknown() });
export type AnswerFrame = z.infer<typeof answerFrame>;

/** Calls are small; whoever sends more is no replica of ours. */
export const MAX_CALL_BYTES = 1_048_576;
/** Calls of one socket that have no answer yet. What comes beyond that goes another way. */
export const MAX_CALLS_UNDER_WAY = 1_024;
/** Bytes of one socket that its other end has not read yet. */
export const MAX_UNREAD_BYTES = 4_194_304;
export const CALLS_KEEPALIVE: KeepaliveTimes = { pingMs: 5_000, silenceMs: 15_000 };
export const CALLS_TICK_MS = 1_000;
