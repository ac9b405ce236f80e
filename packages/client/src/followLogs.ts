import { HubResponseError, HubUnreachableError } from "./errors.ts";
import type { Http } from "./http.ts";
import { type SseFrame, SseParser } from "./sse.ts";

export interface FollowOptions {
  /** With how many of the lines that are there it begins; the hub's default otherwise. */
  readonly tail?: number | undefined;
  /** Ends the iteration. */
  readonly signal: AbortSignal;
  /** Waits before a reconnect; `attempt`: how many there were since the last line. Lines of this time are not told. */
  readonly wait: (attempt: number) => Promise<void>;
}

/** The hub has ended the stream for good, for a reason of its own: `HubResponseError` says which. */
const refused = (frame: SseFrame): HubResponseError | undefined => {
  if (frame.event !== "error") return undefined;
  const said: unknown = JSON.parse(frame.data);
  if (typeof said !== "object" || said === null) return undefined;
  if ("reconnect" in said && said.reconnect === true) return undefined;
  const reason = "reason" in said ? String(said.reason) : "stream_failed";
  return new HubResponseError({ status: 403, code: reason, message: `the log cannot be followed: ${reason}` });
};

const lineOf = (frame: SseFrame): string | undefined => {
  if (frame.event !== "log") return undefined;
  const entry: unknown = JSON.parse(frame.data);
  return typeof entry === "object" && entry !== null && "message" in entry ? String(entry.message) : undefined;
};

/** Refusals that no reconnect can change; a draining replica and a runtime broker that is away pass. */
const isFinal = (err: unknown): boolean =>
  err instanceof HubResponseError ? err.status < 500 && err.status !== 429 : !(err instanceof HubUnreachableError);

/**
 * The lines of an agent's log as they come, across replicas that stop and runtime brokers that come back. Ends with the
 * log, or when `signal` aborts.
 * @throws HubResponseError when the hub refuses
 */
export async function* followLogs(http: Http, path: string, options: FollowOptions): AsyncGenerator<string> {
  const { signal, wait } = options;
  let tail = options.tail;
  let attempt = 0;
  while (!signal.aborted) {
    try {
      for await (const frame of frames(http, path, tail, signal)) {
        tail = 0;
        if (frame.event === "end") return;
        const refusal = refused(frame);
        if (refusal) throw refusal;
        const line = lineOf(frame);
        if (line === undefined) continue;
        attempt = 0;
        yield line;
      }
    } catch (err) {
      if (signal.aborted) return;
      if (isFinal(err)) throw err;
    }
    if (signal.aborted) return;
    attempt += 1;
    await wait(attempt);
  }
}

/** The frames of one connection, until it ends or breaks. */
async function* frames(http: Http, path: string, tail: number | undefined, signal: AbortSignal) {
  const response = await http.stream(path, {
    query: { follow: true, tail },
    headers: { accept: "text/event-stream" },
    signal,
  });
  const parser = new SseParser();
  const decoder = new TextDecoder();
  try {
    for await (const chunk of response.body ?? []) yield* parser.push(decoder.decode(chunk, { stream: true }));
  } catch (cause) {
    throw new HubUnreachableError("the log broke off", { cause, timedOut: false });
  }
}
