import { Pieces } from "./pieces.ts";

export interface PacerOptions {
  /** What waits is put together to pieces of this size. */
  readonly pieceBytes: number;
  /** So much may be on its way; what comes beyond it waits. */
  readonly aheadBytes: number;
  /** Sends a piece; `done` is called with its length once it has gone. */
  readonly transmit: (piece: Buffer) => void;
}

/** Sends bytes on in order. What waits is kept in a few large pieces however small it came. */
export class Pacer {
  readonly #options: PacerOptions;
  readonly #waiting: Pieces;
  #underWayBytes = 0;

  constructor(options: PacerOptions) {
    this.#options = options;
    this.#waiting = new Pieces(options.pieceBytes);
  }

  /** Bytes that wait or are on their way. */
  get heldBytes(): number {
    return this.#waiting.bytes + this.#underWayBytes;
  }

  push(data: Buffer): void {
    const { pieceBytes, aheadBytes } = this.#options;
    let at = 0;
    while (at < data.byteLength && this.#waiting.bytes === 0 && this.#underWayBytes < aheadBytes) {
      const piece = data.subarray(at, at + pieceBytes);
      at += piece.byteLength;
      this.#send(piece);
    }
    this.#waiting.push(data.subarray(at));
  }

  /** So many of the bytes on their way have gone. */
  done(bytes: number): void {
    this.#underWayBytes = Math.max(0, this.#underWayBytes - bytes);
    while (this.#underWayBytes < this.#options.aheadBytes && this.#sendNext());
  }

  /** Sends all that waits at once. */
  flush(): void {
    while (this.#sendNext());
  }

  /** Forgets all that waits. */
  drop(): void {
    this.#waiting.clear();
  }

  #sendNext(): boolean {
    const piece = this.#waiting.shift();
    if (!piece) return false;
    this.#send(piece);
    return true;
  }

  #send(piece: Buffer): void {
    this.#underWayBytes += piece.byteLength;
    this.#options.transmit(piece);
  }
}
