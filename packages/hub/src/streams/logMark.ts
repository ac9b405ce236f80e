/**
 * Where a reader of a log is: the end of what it has had, as it stands there. By that text its place is found again in
 * the log after a reconnect, through whichever replica and at whichever kind of runtime broker.
 */

/** Long enough to stand once in a log of any use, short enough for a header. */
const MARK_BYTES = 384;
const ID = /^[A-Za-z0-9_-]{1,512}$/;
const NEWLINE = 0x0a;

/** The id of an event, made of a mark. */
export const toEventId = (mark: Buffer): string => mark.toString("base64url");

/** The mark that an id was made of; undefined for anything else. */
export const fromEventId = (id: string | null | undefined): Buffer | undefined =>
  id && ID.test(id) ? Buffer.from(id, "base64url") : undefined;

/** Follows a reader through a log. */
export class LogPlace {
  #mark: Buffer;
  /** Of the line that has not ended yet. */
  #open = Buffer.alloc(0);

  constructor(mark: Buffer = Buffer.alloc(0)) {
    this.#mark = mark;
  }

  /** The mark after the last whole line; undefined while there was none. */
  get mark(): Buffer | undefined {
    return this.#mark.byteLength > 0 ? this.#mark : undefined;
  }

  push(data: Buffer): void {
    const end = data.lastIndexOf(NEWLINE) + 1;
    if (end > 0) this.#mark = ending(this.#mark, this.#open, data.subarray(0, end));
    this.#open = end > 0 ? ending(data.subarray(end)) : ending(this.#open, data);
  }
}

/** The last bytes of all of these, in a buffer of their own. */
const ending = (...parts: readonly Buffer[]): Buffer<ArrayBuffer> =>
  Buffer.from(Buffer.concat(parts).subarray(-MARK_BYTES));
