import {
  joinedPiece,
  type LogPiece,
  type LogPlace,
  movedOn,
  NOWHERE,
  pieceOf,
  placeOf,
  toBytes,
} from "@rootstock/protocol";

/** Short enough for a header, and what replicas of the release before take. */
const ID = /^[A-Za-z0-9_-]{1,512}$/;
const NEWLINE = 0x0a;
const NOTHING = pieceOf(Buffer.alloc(0));

/** The id of an event, made of the place behind it. */
export const toEventId = (place: LogPlace): string => toBytes(place).toString("base64url");

/** The place that an id was made of; undefined for anything else. */
export const fromEventId = (id: string | null | undefined): LogPlace | undefined =>
  id && ID.test(id) ? placeOf(Buffer.from(id, "base64url")) : undefined;

/** Follows a reader through a log. */
export class LogReader {
  #place: LogPlace;
  /** Of the line that has not ended yet. */
  #open: LogPiece = NOTHING;

  constructor(place: LogPlace = NOWHERE) {
    this.#place = place;
  }

  /** The place after the last whole line; undefined while there was none. */
  get place(): LogPlace | undefined {
    return this.#place.mark.byteLength > 0 ? this.#place : undefined;
  }

  push(data: Buffer): void {
    const end = data.lastIndexOf(NEWLINE) + 1;
    if (end > 0) this.#place = movedOn(this.#place, joinedPiece(this.#open, pieceOf(data.subarray(0, end))));
    this.#open = joinedPiece(end > 0 ? NOTHING : this.#open, pieceOf(data.subarray(end)));
  }
}
