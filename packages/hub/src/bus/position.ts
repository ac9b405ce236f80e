import { parseUuid, type Uuid } from "@rootstock/protocol";
import { parseSnapshot, type Snapshot } from "./snapshot.ts";

/**
 * A place in the change feed (spec/07 B.3, B.6): everything visible in `seen` has been told. With `page`, also what was
 * visible in `page.target`, in id order up to and including `page.id`, of that last change only up to `page.part`.
 */
export interface Position {
  readonly epoch: Uuid;
  readonly seen: Snapshot;
  readonly page?: {
    readonly target: Snapshot;
    readonly id: string;
    /** Of the change `id`, the events up to this part have been told; undefined: all. */
    readonly part?: string;
  };
}

/** The opaque form that clients keep: valid on every replica. */
export const encodePosition = (p: Position): string => {
  const fields: string[] = [p.epoch, p.seen.text];
  if (p.page) fields.push(p.page.target.text, p.page.id);
  if (p.page?.part !== undefined) fields.push(p.page.part);
  return Buffer.from(fields.join("|")).toString("base64url");
};

/**
 * Encodes the positions of many events one after another, as `encodePosition` does. What those of one page share is
 * encoded once: with many writers open a snapshot is hundreds of characters long.
 */
export class PositionEncoder {
  #page:
    | { readonly seen: Snapshot; readonly target: Snapshot; readonly epoch: Uuid; readonly head: string }
    | undefined;

  encode(p: Position): string {
    if (!p.page) return encodePosition(p);
    const { target, id, part } = p.page;
    if (this.#page?.target !== target || this.#page.seen !== p.seen || this.#page.epoch !== p.epoch) {
      const text = `${p.epoch}|${p.seen.text}|${target.text}|`;
      // Base64 goes by three bytes. The number that follows may begin with zeros, and fills them up.
      const head = Buffer.from(text.padEnd(Math.ceil(text.length / 3) * 3, "0")).toString("base64url");
      this.#page = { seen: p.seen, target, epoch: p.epoch, head };
    }
    return this.#page.head + Buffer.from(part === undefined ? id : `${id}|${part}`).toString("base64url");
  }
}

/** Undefined for anything that `encodePosition` did not make. */
export const decodePosition = (token: string): Position | undefined => {
  if (token.length > 65_536) return undefined;
  const fields = Buffer.from(token, "base64url").toString().split("|");
  const [epochText = "", seenText = "", targetText, id, part] = fields;
  const epoch = parseUuid(epochText);
  const seen = parseSnapshot(seenText);
  if (!epoch || !seen || fields.length > 5) return undefined;
  if (targetText === undefined) return { epoch, seen };
  const target = parseSnapshot(targetText);
  if (!target || id === undefined || !/^\d{1,20}$/.test(id)) return undefined;
  const number = id.replace(/^0+(?=\d)/, "");
  if (number.length > 18) return undefined;
  return { epoch, seen, page: { target, id: number, ...(part !== undefined && { part }) } };
};
