import { connect, type Socket } from "node:net";
import { Samples } from "../samples.ts";
import { serveWorker } from "../worker.ts";

/**
 * Many clients of the event stream, in one process: they count, and see that the numbers of each agent and person come
 * one after the other. Reads what our servers send, and nothing else: Node's own client would cost more than they do.
 */

export interface Listened {
  readonly url: string;
  readonly token: string;
  readonly pattern: string;
  /** Counts for how far the slowest replica is. */
  readonly hearsAll: boolean;
}

export interface Heard {
  readonly events: number;
  readonly bytes: number;
  readonly outOfOrder: number;
  readonly resyncs: number;
  /** Streams that were cut and taken up again. */
  readonly cuts: number;
  readonly lagP50: number;
  readonly lagP99: number;
}

const HEADER_END = "\r\n\r\n";
/** One event in so many is asked how old it is. */
const SAMPLED = 20;

class Listener {
  readonly last = new Map<string, number>();
  events = 0;
  bytes = 0;
  outOfOrder = 0;
  resyncs = 0;
  cuts = 0;
  lag = new Samples();
  readonly of: Listened;
  #socket: Socket | undefined;
  #text = "";
  #lastId = "";

  constructor(of: Listened) {
    this.of = of;
  }

  /** Resolves when the stream has begun. */
  open(): Promise<void> {
    const { hostname, port, host } = new URL(this.of.url);
    const socket = connect(Number(port), hostname);
    this.#socket = socket;
    this.#text = "";
    socket.setEncoding("latin1");
    return new Promise((resolve, reject) => {
      let begun = false;
      socket.on("connect", () =>
        socket.write(
          `GET /events?sub=${encodeURIComponent(this.of.pattern)} HTTP/1.1\r\nhost: ${host}\r\n` +
            `authorization: Bearer ${this.of.token}\r\n${this.#lastId && `last-event-id: ${this.#lastId}\r\n`}\r\n`,
        ),
      );
      socket.on("data", (chunk: string) => {
        this.bytes += chunk.length;
        this.#text += chunk;
        if (!begun) {
          const end = this.#text.indexOf(HEADER_END);
          if (end < 0 || this.#text.indexOf("\n\n", end) < 0) return;
          if (!this.#text.startsWith("HTTP/1.1 200")) reject(new Error(this.#text));
          begun = true;
          this.#text = this.#text.slice(end + HEADER_END.length);
          resolve();
        }
        this.#read();
      });
      socket.on("error", () => {});
      socket.on("close", () => {
        if (!begun) reject(new Error("the stream did not begin"));
        else if (this.#socket === socket) {
          this.cuts += 1;
          void this.open().catch(() => {});
        }
      });
    });
  }

  close(): void {
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.destroy();
  }

  #read(): void {
    let from = 0;
    for (let end = this.#text.indexOf("\n\n"); end >= 0; end = this.#text.indexOf("\n\n", from)) {
      this.#take(this.#text.slice(from, end));
      from = end + 2;
    }
    if (from > 0) this.#text = this.#text.slice(from);
  }

  #take(frame: string): void {
    const id = frame.indexOf("id: ");
    if (id >= 0) {
      const idEnd = frame.indexOf("\n", id);
      this.#lastId = frame.slice(id + 4, idEnd < 0 ? undefined : idEnd);
    }
    if (frame.includes("event: resync")) this.resyncs += 1;
    const at = frame.indexOf("\ndata: ");
    if (at < 0 || !frame.includes("event: update")) return;
    const { data } = JSON.parse(frame.slice(at + 7));
    this.events += 1;
    if (data.msg !== undefined) {
      const [n = "", sent = ""] = data.msg.split(" ", 2);
      this.#count(data.recipientId, Number(n), sent);
    } else if (data.detail?.currentTurns !== undefined)
      this.#count(data.agentId, data.detail.currentTurns, data.detail.message);
  }

  #count(id: string, n: number, sentMicroseconds: string): void {
    if (n !== (this.last.get(id) ?? 0) + 1) this.outOfOrder += 1;
    this.last.set(id, n);
    if (this.events % SAMPLED === 0)
      this.lag.add((Number(process.hrtime.bigint() / 1000n) - Number(sentMicroseconds)) / 1000);
  }
}

let listeners: Listener[] = [];
const sum = (of: (l: Listener) => number): number => listeners.reduce((total, l) => total + of(l), 0);

serveWorker({
  /** Resolves when all of them hear. */
  listen: async (wanted: readonly Listened[]) => {
    listeners = wanted.map((w) => new Listener(w));
    await Promise.all(listeners.map((l) => l.open()));
  },
  /** How many events everybody has heard who hears all: the fewest of them. */
  progress: (): number => Math.min(...listeners.filter((l) => l.of.hearsAll).map((l) => l.events)),
  /** Lag from here on. */
  forgetLag: () => {
    for (const listener of listeners) listener.lag = new Samples();
  },
  heard: (): Heard => {
    const lag = new Samples();
    for (const listener of listeners) lag.addAll(listener.lag.values);
    return {
      events: sum((l) => l.events),
      bytes: sum((l) => l.bytes),
      outOfOrder: sum((l) => l.outOfOrder),
      resyncs: sum((l) => l.resyncs),
      cuts: sum((l) => l.cuts),
      lagP50: lag.p50,
      lagP99: lag.p99,
    };
  },
  /** Of these last numbers, those that a listener who should have heard of them has not; by pattern, the ids it hears. */
  missing: (p: {
    readonly last: ReadonlyMap<string, number>;
    readonly heardBy: ReadonlyMap<string, readonly string[]>;
  }) =>
    sum((l) =>
      (p.heardBy.get(l.of.pattern) ?? []).reduce(
        (lost, id) => lost + Math.max(0, (p.last.get(id) ?? 0) - (l.last.get(id) ?? 0)),
        0,
      ),
    ),
  close: () => {
    for (const listener of listeners) listener.close();
  },
});
