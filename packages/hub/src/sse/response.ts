import type { SseHub } from "./sseHub.ts";
import type { SseRequest } from "./sseStream.ts";

/** Proxies must neither keep an event stream back nor keep it. */
const HEADERS = {
  "content-type": "text/event-stream",
  "cache-control": "no-cache, no-transform",
  connection: "keep-alive",
  "x-accel-buffering": "no",
};

const encoder = new TextEncoder();

/** The answer that carries a stream, at the speed of its reader. */
export const sseResponse = (hub: SseHub, request: Omit<SseRequest, "write">): Response => {
  const cancelled = new AbortController();
  let pulled: () => void = () => {};
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      const write = (text: string): Promise<void> => {
        if (cancelled.signal.aborted) return Promise.resolve();
        controller.enqueue(encoder.encode(text));
        if ((controller.desiredSize ?? 0) > 0) return Promise.resolve();
        return new Promise((resolve) => {
          pulled = resolve;
        });
      };
      const signal = AbortSignal.any([request.signal, cancelled.signal]);
      void hub.open({ ...request, signal, write }).then((end) => {
        if (cancelled.signal.aborted) return;
        // A client that is cut should see a broken connection, and come back, not an orderly end.
        if (end === "overflow") controller.error(new Error("the client was too slow"));
        else controller.close();
        cancelled.abort();
      });
    },
    pull() {
      pulled();
    },
    cancel() {
      cancelled.abort();
      pulled();
    },
  });
  return new Response(body, { headers: HEADERS });
};
