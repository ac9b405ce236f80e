/** A hash of bytes that can be had from those of its parts: for comparing, nothing is kept secret or proven by it. */
export interface TextHash {
  /** Of how many bytes. */
  readonly bytes: number;
  /** 32 bits, unsigned. */
  readonly sum: number;
}

const BASE = 0x01000193;

/** The hash of nothing. */
export const NO_TEXT: TextHash = { bytes: 0, sum: 0 };

export const hashOf = (text: Uint8Array): TextHash => new Prefixes(text).upTo(text.byteLength);

/** The hash of one text and another behind it. */
export const joined = (a: TextHash, b: TextHash): TextHash => ({
  bytes: a.bytes + b.bytes,
  sum: (Math.imul(a.sum, power(b.bytes)) + b.sum) >>> 0,
});

/** The hash of what `whole` has behind its first part. */
export const behind = (part: TextHash, whole: TextHash): TextHash => {
  const bytes = whole.bytes - part.bytes;
  return { bytes, sum: (whole.sum - Math.imul(part.sum, power(bytes))) >>> 0 };
};

/** The hashes of a text's beginnings: cheap when they are asked for from short to long. */
export class Prefixes {
  readonly #text: Uint8Array;
  #bytes = 0;
  #sum = 0;

  constructor(text: Uint8Array) {
    this.#text = text;
  }

  upTo(bytes: number): TextHash {
    if (bytes < this.#bytes) [this.#bytes, this.#sum] = [0, 0];
    let sum = this.#sum;
    for (let at = this.#bytes; at < bytes; at += 1) sum = (Math.imul(sum, BASE) + (this.#text[at] ?? 0) + 1) | 0;
    [this.#bytes, this.#sum] = [bytes, sum];
    return { bytes, sum: sum >>> 0 };
  }
}

/** The base to the power of `exponent`, in 32 bits. */
const power = (exponent: number): number => {
  let [result, square] = [1, BASE];
  for (let left = exponent; left > 0; left = Math.floor(left / 2)) {
    if (left % 2 === 1) result = Math.imul(result, square);
    square = Math.imul(square, square);
  }
  return result;
};
