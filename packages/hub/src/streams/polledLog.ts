import { newsAfter, Prefixes, type TextHash } from "@rootstock/protocol";
import { type Base, Pacer } from "@rootstock/service";
import { type Connection, type StreamEnd, type StreamHandler, TunnelError } from "../control/index.ts";
import type { AgentStream, LogRequest } from "./agentStream.ts";
import { fromEventId } from "./logMark.ts";

const PIECES = { pieceBytes: 32_768, aheadBytes: 262_144 };
const POLL_MS = 3_000;
/** Relays report what was taken in steps: with less than this under way, all of it may have been. */
const TAKEN_BELOW_BYTES = 131_072;
/** A call keeps the unmodified runtime broker from everything else: it may take this part of the time at most. */
const BUSY_PART = 1 / 20;
const ANSWER_WITHIN_MS = 60_000;
/** So much of what was seen last is looked for in the next answer. */
const MARK_BYTES = 4_096;

/**
 * A log that is followed on a runtime broker without streams of logs: it is asked for the whole log again and again, and
 * what is new is passed on, once the reader has taken what came before.
 */
export class PolledLog implements AgentStream {
  readonly #base: Base;
  readonly #connection: Connection;
  readonly #request: LogRequest;
  readonly #left = new AbortController();
  readonly #output: Pacer;
  #taken: (() => void) | undefined;
  #seen: { readonly text: TextHash; readonly mark: Buffer } | undefined;

  constructor(base: Base, connection: Connection, request: LogRequest, handler: StreamHandler) {
    this.#base = base;
    this.#connection = connection;
    this.#request = request;
    this.#output = new Pacer({ ...PIECES, transmit: (piece) => handler.onData(piece) });
    void this.#run().then((end) => {
      if (!this.#left.signal.aborted) handler.onClose(end);
      this.#left.abort();
    });
  }

  write(): void {}

  resize(): void {}

  consumed(bytes: number): void {
    this.#output.done(bytes);
    if (this.#isTaken()) this.#taken?.();
  }

  close(): void {
    this.#left.abort();
    this.#taken?.();
  }

  /** Resolves with how it ended. */
  async #run(): Promise<StreamEnd> {
    const { clock } = this.#base;
    const { signal } = this.#left;
    while (!signal.aborted) {
      const began = clock.elapsed();
      const log = await this.#ask().catch((err: unknown) => this.#failed(err));
      if (signal.aborted) break;
      const took = clock.elapsed() - began;
      if (Buffer.isBuffer(log)) {
        this.#output.push(this.#news(log));
        await this.#allTaken();
      } else if (log) return log;
      await clock.sleep(Math.max(POLL_MS, took / BUSY_PART), signal);
    }
    return { code: 0, reason: "session closed" };
  }

  /** Undefined: the next time may be better. */
  #failed(err: unknown): StreamEnd | undefined {
    if (err instanceof TunnelError && this.#connection.isOpen) return undefined;
    if (!(err instanceof TunnelError)) this.#base.log.warn({ err }, "following a log failed");
    return { code: undefined, reason: err instanceof Error ? err.message : String(err) };
  }

  async #ask(): Promise<Buffer | StreamEnd> {
    const { slug, projectId } = this.#request;
    const { status, body } = await this.#connection.call({
      method: "GET",
      path: `/api/v1/agents/${slug}/logs`,
      query: new URLSearchParams({ projectId }).toString(),
      timeoutMs: ANSWER_WITHIN_MS,
      signal: this.#left.signal,
    });
    if (status >= 200 && status < 300) return body;
    return status === 404 ? { code: 404, reason: "agent not found" } : { code: 1011, reason: `answered ${status}` };
  }

  /** What was not in the answer before. One that shares nothing with it is a new log. */
  #news(log: Buffer): Buffer {
    const seen = this.#seen;
    const prefixes = new Prefixes(log);
    const grown = seen && seen.text.bytes <= log.byteLength && prefixes.upTo(seen.text.bytes).sum === seen.text.sum;
    this.#seen = { text: prefixes.upTo(log.byteLength), mark: Buffer.from(log.subarray(-MARK_BYTES)) };
    if (!seen) {
      const after = fromEventId(this.#request.after);
      return after ? (newsAfter(log, after) ?? log) : lastLines(log, this.#request.tail);
    }
    if (grown) return log.subarray(seen.text.bytes);
    // Runtime brokers answer with the end of a long log: then the same text stands further up.
    return newsAfter(log, { mark: seen.mark, endings: [] }) ?? log;
  }

  #isTaken(): boolean {
    return this.#output.heldBytes < TAKEN_BELOW_BYTES;
  }

  #allTaken(): Promise<void> {
    if (this.#isTaken() || this.#left.signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      this.#taken = () => {
        this.#taken = undefined;
        resolve();
      };
    });
  }
}

const NEWLINE = 0x0a;

/** The last `count` lines of a text. */
export const lastLines = (text: Buffer, count: number): Buffer => {
  if (count === 0) return text.subarray(text.byteLength);
  let at = text.byteLength;
  if (text[at - 1] === NEWLINE) at -= 1;
  for (let left = count; left > 0; left -= 1) {
    const before = at <= 0 ? -1 : text.lastIndexOf(NEWLINE, at - 1);
    if (before < 0) return text;
    at = before;
  }
  return text.subarray(at + 1);
};
