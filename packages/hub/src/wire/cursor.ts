import { createHash } from "node:crypto";
import { HubError, isStorable, parseUuid, type Uuid } from "@rootstock/protocol";
import type { Position } from "@rootstock/store";
import { z } from "zod";

/** Where a page begins, as a client gave it: a place, or the id of the last row that it has (spec/04 2.2). */
export type Cursor = { readonly position: Position } | { readonly lastId: Uuid };

/** The end of the year 9999: no row is younger, and PostgreSQL reads every time up to then. */
const MAX_TIME = 253_402_300_799_999;

const shape = z.object({
  q: z.string(),
  c: z.number().int().min(0).max(MAX_TIME),
  i: z.string(),
  n: z.string().refine(isStorable).optional(),
});

/** Names a query, so that a cursor of another one is noticed. Keys in any order, absent ones left out. */
const queryName = (list: string, query: Readonly<Record<string, unknown>>): string => {
  const given = Object.entries(query)
    .filter(([, value]) => value !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return createHash("sha256")
    .update(JSON.stringify([list, given]))
    .digest("base64url")
    .slice(0, 16);
};

/** The cursor behind a row: opaque, and good for the same list with the same filters only. */
export const encodeCursor = (list: string, query: Readonly<Record<string, unknown>>, last: Position): string =>
  Buffer.from(
    JSON.stringify({ q: queryName(list, query), c: last.created.getTime(), i: last.id, n: last.name }),
  ).toString("base64url");

/** Reads a cursor. Throws 400 `invalid_cursor` for a damaged one and for one of another list or other filters. */
export const decodeCursor = (list: string, query: Readonly<Record<string, unknown>>, text: string): Cursor => {
  const lastId = parseUuid(text);
  if (lastId !== undefined) return { lastId };
  const read = shape.safeParse(parsed(text));
  if (!read.success) throw invalidCursor("the cursor is damaged");
  const id = parseUuid(read.data.i);
  if (id === undefined) throw invalidCursor("the cursor is damaged");
  if (read.data.q !== queryName(list, query)) throw invalidCursor("the cursor belongs to another query");
  return { position: { created: new Date(read.data.c), id, name: read.data.n } };
};

/** 400 `invalid_cursor`. */
export const invalidCursor = (message: string): HubError =>
  new HubError("invalid_cursor", message, { details: { field: "cursor" } });

const parsed = (text: string): unknown => {
  try {
    return JSON.parse(Buffer.from(text, "base64url").toString("utf8"));
  } catch {
    return undefined;
  }
};
