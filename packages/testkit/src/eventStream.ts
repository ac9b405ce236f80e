import { eventually } from "./eventually.ts";
import { TEST_TOKEN } from "./replicas.ts";

/** One frame of an event stream. */
export interface EventFrame {
  readonly id: string | undefined;
  readonly event: string | undefined;
  /** The data, of an event as JSON, of any other frame as text; undefined where there is none. */
  readonly data: unknown;
}

/** An open event stream of a replica, as a client reads it. */
export interface EventStream {
  /** Every frame so far, in order. */
  readonly frames: readonly EventFrame[];
  /** The frames that are events. */
  updates(): readonly EventFrame[];
  /** Resolves when the hub has ended it. */
  readonly ended: Promise<void>;
  close(): Promise<void>;
}

const parseFrame = (text: string): EventFrame => {
  const field = (name: string) =>
    text
      .split("\n")
      .find((line) => line.startsWith(`${name}:`))
      ?.slice(name.length + 1)
      .trim();
  const [event, data] = [field("event"), field("data")];
  return { id: field("id"), event, data: data !== undefined && event === "update" ? JSON.parse(data) : data };
};

/**
 * Opens `/events` at a replica and reads on until closed. Resolves once the stream has told a position to resume from,
 * so that nothing after that is missed; rejects when it ends before.
 */
export const openEventStream = async (
  replica: { readonly url: string },
  options: {
    readonly patterns: readonly string[];
    readonly lastEventId?: string | undefined;
    /** Whose stream it is; the development user's unless given. */
    readonly token?: string;
    /** What proves whose it is, in place of a token: a cookie, for one. */
    readonly headers?: Readonly<Record<string, string>>;
  },
): Promise<EventStream> => {
  const gone = new AbortController();
  const query = new URLSearchParams(options.patterns.map((pattern): [string, string] => ["sub", pattern]));
  const response = await fetch(`${replica.url}/events?${query}`, {
    headers: {
      ...(options.headers ?? { authorization: `Bearer ${options.token ?? TEST_TOKEN}` }),
      ...(options.lastEventId !== undefined && { "last-event-id": options.lastEventId }),
    },
    signal: gone.signal,
  });
  if (!response.body) throw new Error(`/events answered ${response.status}: ${await response.text()}`);
  const frames: EventFrame[] = [];
  const { body } = response;
  const read = async (): Promise<void> => {
    let text = "";
    for await (const chunk of body.pipeThrough(new TextDecoderStream())) {
      const parts = (text + chunk).split("\n\n");
      text = parts.pop() ?? "";
      frames.push(...parts.map(parseFrame));
    }
  };
  let over = false;
  const reading = read()
    .catch(() => {})
    .finally(() => {
      over = true;
    });
  await eventually(() => over || frames.some((f) => f.id !== undefined));
  if (!frames.some((f) => f.id !== undefined)) throw new Error("the event stream ended before it told a position");
  return {
    frames,
    updates: () => frames.filter((f) => f.event === "update"),
    ended: reading,
    close: async () => {
      gone.abort();
      await reading;
    },
  };
};
