import { HubResponseError, HubUnreachableError } from "./errors.ts";
import type { Http } from "./http.ts";
import { SseParser } from "./sse.ts";

/** Something that happened at the hub (spec/02 7.2), or the news that some of what happened cannot be told any more. */
export type HubEvent =
  | { readonly kind: "update"; readonly id: string; readonly subject: string; readonly data: unknown }
  /** The position was too old: read anew whatever is shown, then go on from here. */
  | { readonly kind: "resync"; readonly id: string; readonly reason: string };

export interface EventOptions {
  /** Subject patterns: `*` stands for one token, `>` at the end for one or more (spec/02 7.1). */
  readonly subjects: readonly string[];
  /** Where to go on: the `id` of the last event seen, on whatever replica. Without it only new events come. */
  readonly after?: string | undefined;
  /** Ends the iteration. */
  readonly signal: AbortSignal;
  /** Waits before a reconnect: milliseconds that the hub asked for, or undefined, and attempts since the last event. */
  readonly wait: (askedMs: number | undefined, attempt: number) => Promise<void>;
}

const parseUpdate = (text: string): { subject: string; data: unknown } | undefined => {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null || !("subject" in value)) return undefined;
    if (typeof value.subject !== "string") return undefined;
    return { subject: value.subject, data: "data" in value ? value.data : undefined };
  } catch {
    return undefined;
  }
};

/** A refusal that no reconnect can change; overload, a draining replica and a database outage pass. */
const isFinal = (err: unknown): boolean =>
  err instanceof HubResponseError && err.status < 500 && err.status !== 429 && err.status !== 408;

/**
 * The hub's events, each once, across broken connections and dying replicas: after a cut it goes on from the last
 * position seen (spec/07 B.6). Ends when `signal` aborts.
 * @throws HubResponseError when the hub refuses the subscription itself
 */
export async function* readEvents(http: Http, options: EventOptions): AsyncGenerator<HubEvent> {
  let position = options.after;
  let askedMs: number | undefined;
  let attempt = 0;
  while (!options.signal.aborted) {
    try {
      for await (const frame of frames(http, options, position)) {
        attempt = 0;
        position = frame.id || position;
        askedMs = frame.retry ?? askedMs;
        if (frame.event === "resync") yield { kind: "resync", id: frame.id, reason: frame.data };
        if (frame.event !== "update") continue;
        const update = parseUpdate(frame.data);
        if (update) yield { kind: "update", id: frame.id, ...update };
      }
    } catch (err) {
      if (options.signal.aborted) return;
      if (isFinal(err) || !(err instanceof HubResponseError || err instanceof HubUnreachableError)) throw err;
    }
    if (options.signal.aborted) return;
    attempt += 1;
    await options.wait(askedMs, attempt);
  }
}

/** The frames of one connection, until it ends or breaks. */
async function* frames(http: Http, options: EventOptions, position: string | undefined) {
  const query = new URLSearchParams(options.subjects.map((subject): [string, string] => ["sub", subject]));
  const response = await http.stream(`/events?${query}`, {
    signal: options.signal,
    headers: { accept: "text/event-stream", ...(position && { "last-event-id": position }) },
  });
  const parser = new SseParser();
  const decoder = new TextDecoder();
  try {
    for await (const chunk of response.body ?? []) yield* parser.push(decoder.decode(chunk, { stream: true }));
  } catch (cause) {
    throw new HubUnreachableError("the event stream broke off", { cause, timedOut: false });
  }
}
