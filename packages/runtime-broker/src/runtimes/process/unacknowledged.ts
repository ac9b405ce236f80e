interface Waiting {
  bytes: number;
  readonly taken: (() => void) | undefined;
}

/** Input that was sent on, until the other end says that it was taken; it says so in bytes, in the order of the input. */
export class Unacknowledged {
  readonly #waiting: Waiting[] = [];
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  add(bytes: number, taken: (() => void) | undefined): void {
    this.#waiting.push({ bytes, taken });
    this.#bytes += bytes;
  }

  acknowledge(bytes: number): void {
    this.#bytes = Math.max(0, this.#bytes - bytes);
    for (let left = bytes, first = this.#waiting[0]; left > 0 && first; first = this.#waiting[0]) {
      const part = Math.min(left, first.bytes);
      left -= part;
      first.bytes -= part;
      if (first.bytes > 0) return;
      this.#waiting.shift();
      first.taken?.();
    }
  }
}
