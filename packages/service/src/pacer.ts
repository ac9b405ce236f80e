export interface PacerOptions {
  /** What waits is put together to pieces of this size. */
  readonly pieceBytes: number;
  /** So much may be on its way; what comes beyond it waits. */
  readonly aheadBytes: number;
  /** Sends a piece; `done` is called with its length once it has gone. */
  readonly transmit: (piece: Buffer) => void;
}

interface Piece {
  readonly bytes: Buffer;
  used: number;
}

/**
 * Sends bytes on in order. What waits is kept in a few large pieces however small it came: a thousand one-byte frames in a
 * queue would cost a hundred times their content.
 */
export class Pacer {
  readonly #options: PacerOptions;
  readonly #waiting: Piece[] = [];
  #waitingBytes = 0;
  #underWayBytes = 0;

  constructor(options: PacerOptions) {
    this.#options = options;
  }

  /** Bytes that wait or are on their way. */
  get heldBytes(): number {
    return this.#waitingBytes + this.#underWayBytes;
  }

  push(data: Buffer): void {
    const { pieceBytes, aheadBytes } = this.#options;
    for (let at = 0; at < data.byteLength; ) {
      if (this.#waiting.length === 0 && this.#underWayBytes < aheadBytes) {
        const piece = data.subarray(at, at + pieceBytes);
        at += piece.byteLength;
        this.#send(piece);
      } else at += this.#keep(data, at);
    }
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
    this.#waiting.length = 0;
    this.#waitingBytes = 0;
  }

  #sendNext(): boolean {
    const piece = this.#waiting.shift();
    if (!piece) return false;
    this.#waitingBytes -= piece.used;
    this.#send(piece.bytes.subarray(0, piece.used));
    return true;
  }

  #send(piece: Buffer): void {
    this.#underWayBytes += piece.byteLength;
    this.#options.transmit(piece);
  }

  /** Keeps what fits into the last piece, or a new one; how much that was. */
  #keep(data: Buffer, at: number): number {
    let last = this.#waiting.at(-1);
    if (!last || last.used === last.bytes.byteLength) {
      last = { bytes: Buffer.allocUnsafe(this.#options.pieceBytes), used: 0 };
      this.#waiting.push(last);
    }
    const copied = data.copy(last.bytes, last.used, at);
    last.used += copied;
    this.#waitingBytes += copied;
    return copied;
  }
}
