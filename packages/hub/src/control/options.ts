import {
  LEGACY_MAX_FRAME_BYTES,
  MAX_FRAME_BYTES,
  type RuntimeBrokerExtension,
  STREAM_WINDOW_BYTES,
} from "@rootstock/protocol";

/** Times and limits of control channels. Milliseconds, unless said otherwise. */
export interface ControlOptions {
  readonly pingIntervalMs: number;
  /** How long a socket may be silent. Not counted while an unmodified runtime broker executes a request. */
  readonly silenceLimitMs: number;
  /** How long bytes may wait to be written without any getting through. */
  readonly writeLimitMs: number;
  /** How long a request may take from the moment it is sent. */
  readonly requestLimitMs: number;
  /** How long to wait for `connect` before taking a runtime broker for an unmodified one. */
  readonly connectWaitMs: number;
  /** How often all sockets are looked at. */
  readonly tickMs: number;
  /** How often sockets are looked for that the database names and nobody holds. */
  readonly straysEveryMs: number;
  /** The largest frame read from a runtime broker that has said it is ours. */
  readonly maxFrameBytes: number;
  /** The largest frame read from any other: it answers with whole logs (spec/01 3.4). */
  readonly legacyMaxReplyBytes: number;
  /** How much of a stream's output a runtime broker that heeds credits sends before it gets one. */
  readonly streamWindowBytes: number;
  /** A stream of which so many bytes wait for their reader is closed: what every other runtime broker makes needed. */
  readonly streamLimitBytes: number;
}

export const CONTROL_DEFAULTS: ControlOptions = {
  pingIntervalMs: 30_000,
  silenceLimitMs: 60_000,
  writeLimitMs: 10_000,
  requestLimitMs: 120_000,
  connectWaitMs: 2_000,
  tickMs: 1_000,
  straysEveryMs: 15_000,
  maxFrameBytes: MAX_FRAME_BYTES,
  legacyMaxReplyBytes: 16 * MAX_FRAME_BYTES,
  streamWindowBytes: STREAM_WINDOW_BYTES,
  streamLimitBytes: 8 * STREAM_WINDOW_BYTES,
};

/** What a runtime broker can take (spec/01 section 0; what it says of itself in `connect`). */
export interface PeerLimits {
  /** Requests that it runs at once. */
  readonly concurrentRequests: number;
  /** The largest frame that it reads, in bytes. */
  readonly maxFrameBytes: number;
  /** Whether it drops a message whose id it has delivered before. */
  readonly remembersMessages: boolean;
  /** It executes requests on its read loop: while one runs it reads nothing and answers no ping. */
  readonly serial: boolean;
  /** It opens streams of logs; of others the whole log has to be asked for. */
  readonly logStreams: boolean;
  /** It gives credit for the input of streams, and heeds the hub's for their output. */
  readonly streamCredits: boolean;
}

export const UNMODIFIED_LIMITS: PeerLimits = {
  concurrentRequests: 1,
  maxFrameBytes: LEGACY_MAX_FRAME_BYTES,
  remembersMessages: false,
  serial: true,
  streamCredits: false,
  logStreams: false,
};

/** The limits of a runtime broker by what it said of itself; those of the unmodified one when it said nothing. */
export const limitsOf = (extension: RuntimeBrokerExtension | null | undefined): PeerLimits =>
  extension
    ? {
        concurrentRequests: extension.concurrentRequests,
        maxFrameBytes: extension.maxFrameBytes,
        remembersMessages: extension.remembersMessages,
        serial: false,
        streamCredits: typeof extension.streamWindowBytes === "number",
        logStreams: extension.streamTypes?.includes("logs") ?? false,
      }
    : UNMODIFIED_LIMITS;
