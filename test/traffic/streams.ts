import type { StreamedEvent } from "./steps.ts";

/** An event stream that is read in the background from its opening to the end of the replay. */
export class EventStream {
  readonly events: StreamedEvent[] = [];
  readonly #conn: string;
  readonly #reading: Promise<void>;

  constructor(conn: string, body: ReadableStream<Uint8Array>) {
    this.#conn = conn;
    this.#reading = this.#read(body).catch(() => {});
  }

  /** Resolves when the stream has ended. */
  ended(): Promise<void> {
    return this.#reading;
  }

  async #read(body: ReadableStream<Uint8Array>): Promise<void> {
    let rest = "";
    const decoder = new TextDecoder();
    for await (const chunk of body) {
      rest += decoder.decode(chunk, { stream: true });
      const frames = rest.split("\n\n");
      rest = frames.pop() ?? "";
      for (const frame of frames) this.#take(frame);
    }
  }

  #take(frame: string): void {
    const fields = new Map(frame.split("\n").map((line) => [line.split(": ")[0], line.slice(line.indexOf(": ") + 2)]));
    const data = fields.get("data");
    const id = fields.get("id");
    if (data === undefined) return;
    this.events.push({
      kind: "event",
      conn: this.#conn,
      event: fields.get("event") ?? "message",
      ...(id !== undefined && { id }),
      data: JSON.parse(data),
    });
  }
}
