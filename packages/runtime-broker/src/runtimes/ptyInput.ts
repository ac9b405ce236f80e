import { writeSync } from "node:fs";
import { Socket } from "node:net";
import type { IPty } from "@lydell/node-pty";
import type { Clock, Timer } from "@rootstock/service";

/** How soon a program that has taken nothing is tried again, doubling from the one to the other. */
const RETRY_MS = { first: 1, longest: 50 };

interface Piece {
  readonly data: Buffer;
  readonly taken: (() => void) | undefined;
}

/**
 * Types into a pseudo-terminal, in order, and says what its program has taken. A terminal holds a few kilobytes for a
 * program that does not read; the library's own `write` would then stop this whole process until it does, output and all,
 * and a program that waits for its output to be read would never read again.
 */
export class PtyInput {
  readonly #clock: Clock;
  readonly #socket: Socket;
  readonly #fd: number;
  #queue: Piece[] = [];
  /** How much of the first piece has been taken. */
  #taken = 0;
  #pendingBytes = 0;
  #retry: Timer | undefined;
  #retryMs = RETRY_MS.first;
  #whenEmpty: (() => void)[] = [];

  /** @throws Error when the library's terminal is not built as it was */
  constructor(clock: Clock, pty: IPty) {
    this.#clock = clock;
    // Not part of the library's types: the descriptor, and the stream that owns it and knows when it is closed.
    const fd: unknown = Reflect.get(pty, "fd");
    const socket: unknown = Reflect.get(pty, "_socket");
    if (typeof fd !== "number" || !(socket instanceof Socket)) throw new Error("the terminal has no descriptor");
    this.#fd = fd;
    this.#socket = socket;
  }

  /** Bytes that the program has not taken. */
  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  /** `taken` is called once the terminal holds the bytes; never when the program ends before. */
  write(data: Buffer | string, taken?: () => void): void {
    const bytes = Buffer.from(data);
    this.#queue.push({ data: bytes, taken });
    this.#pendingBytes += bytes.byteLength;
    if (!this.#retry) this.#flush();
  }

  /** Resolves with true once nothing is pending, and with false when that takes longer than `ms`. */
  async empty(ms: number): Promise<boolean> {
    if (this.#queue.length === 0) return true;
    const waited = new AbortController();
    const empty = new Promise<boolean>((resolve) => this.#whenEmpty.push(() => resolve(true)));
    const late = this.#clock.sleep(ms, waited.signal).then(() => false);
    try {
      return await Promise.race([empty, late]);
    } finally {
      waited.abort();
    }
  }

  #flush(): void {
    this.#retry = undefined;
    for (let piece = this.#queue[0]; piece; piece = this.#queue[0]) {
      // The number of a descriptor that was closed may by now be that of a file.
      if (this.#socket.destroyed) {
        this.#drop();
        return;
      }
      try {
        this.#advance(piece);
      } catch (err) {
        if (codeOf(err) === "EAGAIN") this.#later();
        else this.#drop();
        return;
      }
    }
    for (const tell of this.#whenEmpty.splice(0)) tell();
  }

  #advance(piece: Piece): void {
    if (piece.data.byteLength > this.#taken) {
      const written = writeSync(this.#fd, piece.data, this.#taken);
      this.#retryMs = RETRY_MS.first;
      this.#taken += written;
      this.#pendingBytes -= written;
    }
    if (this.#taken < piece.data.byteLength) return;
    this.#queue.shift();
    this.#taken = 0;
    piece.taken?.();
  }

  #later(): void {
    this.#retry = this.#clock.after(this.#retryMs, () => this.#flush());
    this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MS.longest);
  }

  /** Nobody is there to take anything any more. */
  #drop(): void {
    this.#queue = [];
    this.#pendingBytes = 0;
    for (const tell of this.#whenEmpty.splice(0)) tell();
  }
}

const codeOf = (err: unknown): unknown =>
  typeof err === "object" && err !== null && "code" in err ? err.code : undefined;
