import { MAX_FRAME_BYTES, STREAM_WINDOW_BYTES } from "@rootstock/protocol";
import { systemClock } from "@rootstock/service";
import type { SimulatedRuntimeBrokerOptions } from "./options.ts";

/** What it says of itself after the upgrade; one like ours says what it can take beyond the rules of spec/01 section 0. */
export const connectFrameOf = (options: SimulatedRuntimeBrokerOptions): object => ({
  type: "connect",
  brokerId: options.credentials.brokerId,
  version: "0.1.0",
  timestamp: Math.floor(systemClock.now() / 1000),
  ...(options.like === "rootstock" && {
    rootstock: {
      concurrentRequests: options.concurrentRequests ?? 8,
      maxFrameBytes: MAX_FRAME_BYTES,
      remembersMessages: true,
      streamTypes: ["pty", "logs"],
      streamWindowBytes: options.streamWindowBytes === undefined ? STREAM_WINDOW_BYTES : options.streamWindowBytes,
    },
  }),
});
