interface Piece {
  readonly bytes: Buffer;
  used: number;
}

/**
 * Bytes that wait, in order, in a few large pieces however small they came: a thousand one-byte buffers in a list would
 * cost a hundred times their content.
 */
export class Pieces {
  readonly #pieceBytes: number;
  #pieces: Piece[] = [];
  #bytes = 0;

  /** @param pieceBytes the size of a piece; the last may be smaller */
  constructor(pieceBytes: number) {
    this.#pieceBytes = pieceBytes;
  }

  /** Bytes that wait. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Copies them. */
  push(data: Buffer): void {
    for (let at = 0; at < data.byteLength; ) {
      const last = this.#roomy();
      const copied = data.copy(last.bytes, last.used, at);
      last.used += copied;
      this.#bytes += copied;
      at += copied;
    }
  }

  /** Takes the next piece away; undefined when nothing waits. */
  shift(): Buffer | undefined {
    const piece = this.#pieces.shift();
    if (!piece) return undefined;
    this.#bytes -= piece.used;
    return piece.bytes.subarray(0, piece.used);
  }

  clear(): void {
    this.#pieces = [];
    this.#bytes = 0;
  }

  /** The last piece, or a new one where that is full. */
  #roomy(): Piece {
    const last = this.#pieces.at(-1);
    if (last && last.used < last.bytes.byteLength) return last;
    const piece = { bytes: Buffer.allocUnsafe(this.#pieceBytes), used: 0 };
    this.#pieces.push(piece);
    return piece;
  }
}
