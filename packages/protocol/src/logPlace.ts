import { behind, hashOf, joined, NO_TEXT, Prefixes, type TextHash } from "./textHash.ts";

/**
 * Where a reader of a log is, told by what it has had: by that its place is found again in the text alone, through any
 * replica and at any kind of runtime broker.
 */
export interface LogPlace {
  /** The end of it, as it stands in the log. */
  readonly mark: Buffer;
  /** Of longer and longer endings of it, the longest first: they tell places apart at which the same lines stand. */
  readonly endings: readonly TextHash[];
}

/** A place of releases before is its mark alone, and text never begins so. */
const VERSION = 0xff;
const HEAD_BYTES = 2;
const ENDING_BYTES = 9;
const MARK_BYTES = 192;
/** The longest of so many is longer than what runtime brokers keep of a log, and all fit in an id. */
const MAX_ENDINGS = 21;
/** Of three endings in a row the longest is so many times as long as the shortest, else the one between is left out. */
const GROWTH = 3;

/** The place of a reader that has had nothing yet. */
export const NOWHERE: LogPlace = { mark: Buffer.alloc(0), endings: [NO_TEXT] };

/** A piece of text as {@link movedOn} takes it: what a place is made of, without the text itself. */
export interface LogPiece extends TextHash {
  readonly end: Buffer;
}

export const pieceOf = (text: Buffer): LogPiece => ({ ...hashOf(text), end: lastOf(text) });

export const joinedPiece = (a: LogPiece, b: LogPiece): LogPiece => ({ ...joined(a, b), end: lastOf(a.end, b.end) });

/** The place of a reader who has had another piece. */
export const movedOn = (place: LogPlace, { bytes, sum, end }: LogPiece): LogPlace => {
  const endings = place.endings.map((ending) => joined(ending, { bytes, sum }));
  if ((endings.at(-1)?.bytes ?? 0) > MARK_BYTES) endings.push(NO_TEXT);
  const kept: TextHash[] = [];
  for (const [n, ending] of endings.entries()) {
    const [longer, shorter] = [kept.at(-1), endings[n + 1]];
    if (!longer || !shorter || longer.bytes >= GROWTH * shorter.bytes) kept.push(ending);
  }
  return { mark: lastOf(place.mark, end), endings: kept.slice(-MAX_ENDINGS) };
};

/** At most 384 bytes. */
export const toBytes = ({ mark, endings }: LogPlace): Buffer => {
  const head = Buffer.alloc(HEAD_BYTES + ENDING_BYTES * endings.length);
  head.writeUInt8(VERSION, 0);
  head.writeUInt8(endings.length, 1);
  for (const [n, { bytes, sum }] of endings.entries()) {
    head.writeUIntBE(bytes, HEAD_BYTES + n * ENDING_BYTES, 5);
    head.writeUInt32BE(sum, HEAD_BYTES + n * ENDING_BYTES + 5);
  }
  return Buffer.concat([head, mark]);
};

/** What `toBytes` made, of this release or of those before; of anything else a place that is nowhere. */
export const placeOf = (bytes: Buffer): LogPlace => {
  const count = bytes[0] === VERSION ? (bytes[1] ?? 0) : 0;
  const head = HEAD_BYTES + count * ENDING_BYTES;
  if (count === 0 || head >= bytes.byteLength) return { mark: bytes, endings: [hashOf(bytes)] };
  const endings = Array.from({ length: count }, (_, n) => ({
    bytes: bytes.readUIntBE(HEAD_BYTES + n * ENDING_BYTES, 5),
    sum: bytes.readUInt32BE(HEAD_BYTES + n * ENDING_BYTES + 5),
  }));
  return { mark: bytes.subarray(head), endings };
};

/**
 * What stands in a log after a reader's place. Where what it has had stands several times, after the first of them:
 * lines may come again, none is left out. Undefined when it is not there: the place lies before the part of the log that
 * is kept, or in another log.
 */
export const newsAfter = (log: Buffer, { mark, endings }: LogPlace): Buffer | undefined => {
  const all = endings[0]?.bytes ?? 0;
  const [ends, begins] = [new Prefixes(log), new Prefixes(log)];
  let likely: Buffer | undefined;
  for (let at = log.indexOf(mark); at >= 0; ) {
    const end = at + mark.byteLength;
    const longest = endings.find(({ bytes }) => bytes <= end);
    if (!longest || behind(begins.upTo(end - longest.bytes), ends.upTo(end)).sum === longest.sum) {
      if (end >= all) return log.subarray(end);
      // The log has lost its beginning, unless all that the reader has had stands further down.
      likely ??= log.subarray(end);
    }
    const next = likely ? Math.max(at + 1, all - mark.byteLength) : at + 1;
    at = next < log.byteLength ? log.indexOf(mark, next) : -1;
  }
  return likely;
};

/** The last bytes of all of these, in a buffer of their own. */
const lastOf = (...parts: readonly Buffer[]): Buffer => Buffer.from(Buffer.concat(parts).subarray(-MARK_BYTES));
