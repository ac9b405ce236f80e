import { z } from "zod";

/** Frames of the control channel between hub and runtime broker: one JSON object per message (spec/01 3.3). */

/** The most that the unmodified runtime broker reads in one frame; it closes with 1009 on more. */
export const LEGACY_MAX_FRAME_BYTES = 65_536;

/** The most that either of our own ends reads in one frame. */
export const MAX_FRAME_BYTES = 1_048_576;

/**
 * How many bytes of one stream either of our own ends sends before the other says, with `stream_credit`, that it has
 * passed some on. An end that says nothing of a window gets no credits and gives none.
 */
export const STREAM_WINDOW_BYTES = 1_048_576;

const streamWindowBytes = z.number().int().min(LEGACY_MAX_FRAME_BYTES).max(16_777_216).nullish();

/**
 * What our own runtime broker says of itself in `connect`. The unmodified one sends nothing of the kind, and ignores
 * what it does not know: then the strict rules of spec/01 section 0 hold.
 */
export const extensionSchema = z.object({
  /** How many requests it runs at once. */
  concurrentRequests: z.number().int().min(1).max(256),
  /** The largest frame that it reads, in bytes. */
  maxFrameBytes: z.number().int().min(LEGACY_MAX_FRAME_BYTES).max(16_777_216),
  /** It drops a message whose `message_id` it has delivered before. */
  remembersMessages: z.boolean(),
  /** How much of a stream's input it takes before it has to give credit; it heeds credits for output too. */
  streamWindowBytes,
  /** The types of streams that it opens; nothing said: terminals. */
  streamTypes: z.array(z.string()).max(16).nullish(),
});
export type RuntimeBrokerExtension = z.infer<typeof extensionSchema>;

export const connectFrame = z.object({
  type: z.literal("connect"),
  brokerId: z.string(),
  version: z.string().nullish(),
  projects: z.array(z.string()).nullish(),
  timestamp: z.number().nullish(),
  rootstock: extensionSchema.nullish(),
});
export type ConnectFrame = z.infer<typeof connectFrame>;

export const connectedFrame = z.object({
  type: z.literal("connected"),
  brokerId: z.string(),
  sessionId: z.string(),
  pingIntervalMs: z.number().int(),
  /** What our own hub says of itself; the original says nothing and reads at most `LEGACY_MAX_FRAME_BYTES`. */
  rootstock: z
    .object({
      /** The largest frame that the hub reads, in bytes. */
      maxFrameBytes: z.number().int().min(LEGACY_MAX_FRAME_BYTES).max(16_777_216),
      /** How much of a stream's output the hub takes before it has to give credit. */
      streamWindowBytes,
    })
    .nullish(),
});
export type ConnectedFrame = z.infer<typeof connectedFrame>;

export const requestFrame = z.object({
  type: z.literal("request"),
  requestId: z.string(),
  method: z.string(),
  path: z.string(),
  query: z.string().nullish(),
  headers: z.record(z.string(), z.string()).nullish(),
  /** Standard base64. */
  body: z.string().nullish(),
});
export type RequestFrame = z.infer<typeof requestFrame>;

export const responseFrame = z.object({
  type: z.literal("response"),
  requestId: z.string(),
  statusCode: z.number().int(),
  headers: z.record(z.string(), z.string()).nullish(),
  body: z.string().nullish(),
});
export type ResponseFrame = z.infer<typeof responseFrame>;

export const streamOpenFrame = z.object({
  type: z.literal("stream_open"),
  streamId: z.string(),
  streamType: z.string(),
  slug: z.string(),
  projectId: z.string().nullish(),
  groveId: z.string().nullish(),
  cols: z.number().int().nullish(),
  rows: z.number().int().nullish(),
  /** The viewer only looks: its size is not the terminal's. Unmodified runtime brokers do not know it. */
  readonly: z.boolean().nullish(),
  /** With how many of the lines that are there a stream of type `logs` begins. */
  tail: z.number().int().min(0).nullish(),
  /** The `LogPlace` of its reader, base64url: it goes on after that instead, if it is still there. */
  after: z.string().nullish(),
});
export type StreamOpenFrame = z.infer<typeof streamOpenFrame>;

export const streamFrame = z.object({
  type: z.literal("stream"),
  streamId: z.string(),
  data: z.string().nullish(),
});
export type StreamFrame = z.infer<typeof streamFrame>;

export const streamResizeFrame = z.object({
  type: z.literal("stream_resize"),
  streamId: z.string(),
  cols: z.number().int(),
  rows: z.number().int(),
});
export type StreamResizeFrame = z.infer<typeof streamResizeFrame>;

export const streamCloseFrame = z.object({
  type: z.literal("stream_close"),
  streamId: z.string(),
  reason: z.string().nullish(),
  code: z.number().int().nullish(),
});
export type StreamCloseFrame = z.infer<typeof streamCloseFrame>;

/**
 * So many more bytes of the stream have been passed on: as many more may be sent. Only between our own ends, and only
 * when both have told a window; others ignore it.
 */
export const streamCreditFrame = z.object({
  type: z.literal("stream_credit"),
  streamId: z.string(),
  bytes: z.number().int().min(1),
});
export type StreamCreditFrame = z.infer<typeof streamCreditFrame>;

export const pingFrame = z.object({ type: z.literal("ping"), timestamp: z.number().nullish() });
export const pongFrame = z.object({ type: z.literal("pong"), timestamp: z.number().nullish() });

/** What a hub may receive on the control channel. Unknown types are ignored, by both ends. */
export const fromRuntimeBroker = z.discriminatedUnion("type", [
  connectFrame,
  responseFrame,
  streamFrame,
  streamCreditFrame,
  streamCloseFrame,
  pingFrame,
  pongFrame,
]);
export type FromRuntimeBroker = z.infer<typeof fromRuntimeBroker>;

/** What a runtime broker may receive on the control channel. */
export const toRuntimeBroker = z.discriminatedUnion("type", [
  connectedFrame,
  requestFrame,
  streamOpenFrame,
  streamFrame,
  streamResizeFrame,
  streamCreditFrame,
  streamCloseFrame,
  pingFrame,
  pongFrame,
]);
export type ToRuntimeBroker = z.infer<typeof toRuntimeBroker>;
