import { STREAM_WINDOW_BYTES } from "@rootstock/protocol";
import { Probe } from "@rootstock/service";
import { eventually } from "./eventually.ts";
import type { SimulatedRuntimeBroker } from "./simulatedRuntimeBroker/index.ts";

const CHUNK_BYTES = 32_768;

/** One terminal as a simulated runtime broker serves it: it prints what the test says and keeps what is typed. */
export class SimulatedTerminal {
  readonly streamId: string;
  /** The frame that opened it. */
  readonly opened: Readonly<Record<string, unknown>>;
  readonly sizes: { readonly cols: unknown; readonly rows: unknown }[] = [];
  readonly closed: Promise<Readonly<Record<string, unknown>>>;
  /** Each piece of input as it comes. */
  readonly onInput = new Probe<Buffer>();
  /** Bytes typed so far. */
  inputBytes = 0;
  /** Bytes printed so far. */
  printed = 0;
  readonly #runtimeBroker: SimulatedRuntimeBroker;
  readonly #input: Buffer[] = [];
  readonly #progress = new Probe<void>();
  #credit: number;
  #over = false;
  #holding = false;
  #owed = 0;

  constructor(runtimeBroker: SimulatedRuntimeBroker, opened: Readonly<Record<string, unknown>>, credits: boolean) {
    this.#runtimeBroker = runtimeBroker;
    this.opened = opened;
    this.streamId = String(opened.streamId);
    this.#credit = credits ? STREAM_WINDOW_BYTES : Number.POSITIVE_INFINITY;
    this.closed = runtimeBroker.onFrame.next((f) => f.type === "stream_close" && f.streamId === this.streamId);
    void this.closed.then(() => this.#end());
    runtimeBroker.onClose.on(() => this.#end());
    runtimeBroker.onFrame.on((frame) => {
      if (frame.streamId === this.streamId) this.#take(frame, credits);
    });
  }

  /** Everything typed so far. */
  input(): Buffer {
    return Buffer.concat(this.#input);
  }

  /** Gives no credit for input from now on. */
  holdInput(): void {
    this.#holding = true;
  }

  /** Gives the credit that was held back, and all later one at once. */
  takeInput(): void {
    this.#holding = false;
    if (this.#owed > 0) this.#give(this.#owed);
    this.#owed = 0;
  }

  /** Whether the hub allows no more output now. */
  get stalled(): boolean {
    return this.#credit <= 0;
  }

  /** Prints at once, whatever the credit. */
  print(data: string | Buffer): void {
    const bytes = Buffer.from(data);
    this.#credit -= bytes.byteLength;
    this.printed += bytes.byteLength;
    this.#runtimeBroker.sendFrame({ type: "stream", streamId: this.streamId, data: bytes.toString("base64") });
  }

  /** Prints `total` bytes, byte n being n modulo 251, as fast as credit allows. Ends early with the stream. */
  async flood(total: number): Promise<void> {
    for (let at = 0; at < total && !this.#over; at += CHUNK_BYTES) {
      if (this.#credit <= 0) await this.#progress.next();
      this.print(patternBytes(at, Math.min(CHUNK_BYTES, total - at)));
      // Lets the socket write and read in between.
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Ends the stream from this side. */
  close(code: number, reason: string): void {
    this.#runtimeBroker.sendFrame({ type: "stream_close", streamId: this.streamId, code, reason });
  }

  #take(frame: Record<string, unknown>, credits: boolean): void {
    if (frame.type === "stream_resize") this.sizes.push({ cols: frame.cols, rows: frame.rows });
    if (frame.type === "stream_credit") {
      this.#credit += Number(frame.bytes);
      this.#progress.emit();
    }
    if (frame.type !== "stream") return;
    const data = Buffer.from(String(frame.data), "base64");
    this.#input.push(data);
    this.inputBytes += data.byteLength;
    this.onInput.emit(data);
    if (!credits) return;
    if (this.#holding) this.#owed += data.byteLength;
    else this.#give(data.byteLength);
  }

  #give(bytes: number): void {
    this.#runtimeBroker.sendFrame({ type: "stream_credit", streamId: this.streamId, bytes });
  }

  #end(): void {
    this.#over = true;
    this.#progress.emit();
  }
}

/** Has a simulated runtime broker serve terminals; `opened` keeps them in order. */
export class SimulatedTerminals {
  readonly opened: SimulatedTerminal[] = [];

  constructor(runtimeBroker: SimulatedRuntimeBroker, options: { readonly credits?: boolean } = {}) {
    runtimeBroker.onFrame.on((frame) => {
      if (frame.type === "stream_open")
        this.opened.push(new SimulatedTerminal(runtimeBroker, frame, options.credits ?? true));
    });
  }

  /** The terminal opened as the nth, counted from 0. */
  nth(n: number): Promise<SimulatedTerminal> {
    return eventually(() => {
      const terminal = this.opened[n];
      if (!terminal) throw new Error(`no terminal ${n} was opened`);
      return terminal;
    });
  }
}

const PATTERN = Buffer.from(Array.from({ length: 251 * 400 }, (_, n) => n % 251));

/** `length` bytes (at most 100,000) of the pattern 0, 1, …, 250, 0, … from position `at`. */
export const patternBytes = (at: number, length: number): Buffer =>
  PATTERN.subarray(at % 251, (at % 251) + Math.min(length, PATTERN.byteLength - 251));
