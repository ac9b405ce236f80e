import { HubResponseError, HubUnreachableError } from "./errors.ts";
import type { Http } from "./http.ts";
import { type SseFrame, SseParser } from "./sse.ts";

export interface FollowOptions {
  /** With how many of the lines that are there it begins; the hub's default otherwise. */
  readonly tail?: number | undefined;
  /** Ends the iteration. */
  readonly signal: AbortSignal;
  /** Waits before a reconnect; `attempt`: how many there were since the last line. */
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

/** More lines without a position come from a hub that tells none. */
const MOST_UNPLACED = 10_000;

/** Where a reader is: the hub's last position, and the lines that came after it, which come again from there. */
class Place {
  #position = "";
  #since: string[] = [];
  #again: string[] = [];
  #begun = false;

  /** What to ask for: the place, else the lines that come from now on; at the beginning the last `tail` lines. */
  query(tail: number | undefined): { readonly position?: string; readonly tail: number | undefined } {
    this.#again = [...this.#since];
    if (this.#position !== "") return { position: this.#position, tail: 0 };
    return { tail: this.#begun ? 0 : tail };
  }

  /** Whether this line is new. `position`: the last that its connection has told, if any. */
  take(line: string, position: string): boolean {
    this.#begun = true;
    const isNew = this.#again.shift() !== line;
    if (isNew) this.#again = [];
    if (position !== "" && position !== this.#position) this.#move(position);
    else if (isNew && this.#position !== "") this.#since.push(line);
    if (this.#since.length > MOST_UNPLACED) this.#move("");
    return isNew;
  }

  #move(position: string): void {
    this.#position = position;
    this.#since = [];
  }
}

/**
 * The lines of an agent's log as they come, across replicas that stop and runtime brokers that come back: each once, as
 * far as the log is still kept where it is written. Ends with the log, or when `signal` aborts.
 * @throws HubResponseError when the hub refuses
 */
export async function* followLogs(http: Http, path: string, options: FollowOptions): AsyncGenerator<string> {
  const { signal, wait } = options;
  const place = new Place();
  let attempt = 0;
  while (!signal.aborted) {
    try {
      for await (const frame of frames(http, path, place.query(options.tail), signal)) {
        if (frame.event === "end") return;
        const refusal = refused(frame);
        if (refusal) throw refusal;
        const line = lineOf(frame);
        if (line === undefined) continue;
        attempt = 0;
        if (place.take(line, frame.id)) yield line;
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
async function* frames(http: Http, path: string, { position, tail }: ReturnType<Place["query"]>, signal: AbortSignal) {
  const response = await http.stream(path, {
    query: { follow: true, tail },
    headers: { accept: "text/event-stream", ...(position && { "last-event-id": position }) },
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
