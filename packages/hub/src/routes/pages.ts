import type { Uuid } from "@rootstock/protocol";
import type { Page, Position } from "@rootstock/store";
import { z } from "zod";
import { decodeCursor, encodeCursor, invalidCursor, some } from "../wire/index.ts";

/** `limit` and `cursor` of every list's query. A limit that is no positive number is ignored (spec/02 1.3). */
export const pageQuery = {
  limit: z.string().optional(),
  cursor: z.string().optional(),
};

export interface PageSizes {
  /** Rows when the caller names no limit but follows a cursor. */
  readonly usual: number;
  /** The most that a caller may ask for. */
  readonly max: number;
  /** Rows when the caller names neither: the CLI never follows a cursor and takes what it does not see for gone. */
  readonly first: number;
}

export interface PageRequest<Row extends Position> {
  /** Names the list, so that a cursor of another one is refused. */
  readonly list: string;
  /** The filters, as far as they decide which rows there are. */
  readonly filters: Readonly<Record<string, unknown>>;
  readonly given: { readonly limit?: string | undefined; readonly cursor?: string | undefined };
  readonly sizes: PageSizes;
  readonly rows: (page: Page) => Promise<readonly Row[]>;
  /** Where a row with this id stands; undefined when there is none that the caller may see. */
  readonly position: (id: Uuid) => Promise<Position | undefined>;
  /** Where a row of the page stands, in lists by anything else than time of creation. */
  readonly standsAt?: (row: Row) => Position;
}

export interface PageOf<Row> {
  readonly rows: readonly Row[];
  readonly nextCursor: string | undefined;
  /** Whether these are all rows there are: nothing needs counting then. */
  readonly complete: boolean;
}

/** How many rows the page has at most. */
export const pageLimit = (given: PageRequest<Position>["given"], sizes: PageSizes): number => {
  const asked = given.limit === undefined ? 0 : Math.trunc(Number(given.limit));
  return asked > 0 ? Math.min(asked, sizes.max) : given.cursor ? sizes.usual : sizes.first;
};

/** Reads one page. Throws 400 `invalid_cursor`. */
export const readPage = async <Row extends Position>(request: PageRequest<Row>): Promise<PageOf<Row>> => {
  const { list, filters, given, sizes } = request;
  const limit = pageLimit(given, sizes);
  const after = await startOf(request);
  const found = await request.rows({ limit: limit + 1, after });
  const rows = found.slice(0, limit);
  const last = found.length > limit ? rows.at(-1) : undefined;
  return {
    rows,
    nextCursor: last && encodeCursor(list, filters, request.standsAt?.(last) ?? last),
    complete: after === undefined && last === undefined,
  };
};

/** The row behind which the page begins; undefined at the beginning. Throws 400 `invalid_cursor`. */
export const startOf = async <Row extends Position>(request: PageRequest<Row>): Promise<Position | undefined> =>
  request.given.cursor ? positionOf(request, request.given.cursor) : undefined;

const positionOf = async <Row extends Position>(request: PageRequest<Row>, text: string): Promise<Position> => {
  const cursor = decodeCursor(request.list, request.filters, text);
  if ("position" in cursor) return cursor.position;
  const position = await request.position(cursor.lastId);
  if (position === undefined) throw invalidCursor("the cursor names no row of this list");
  return position;
};

/** How many rows there are in all: those of the page when it holds them all, else counted. */
export const totalOf = async <Row>(page: PageOf<Row>, count: () => Promise<number>): Promise<number> =>
  page.complete ? page.rows.length : atLeastShown(page, await count());

/** A total and its page are of two moments: what the page shows, and that there is a next one, is so all the same. */
export const atLeastShown = ({ rows, nextCursor }: PageOf<unknown>, counted: number): number =>
  Math.max(counted, rows.length + (nextCursor === undefined ? 0 : 1));

/** A list whose answer says how many rows there are on all of its pages. */
export interface CountedRequest<Row extends Position> extends PageRequest<Row> {
  readonly count: () => Promise<number>;
  /** The name of the rows in the answer: `items`, `users`. */
  readonly as: string;
  readonly toJson: (row: Row) => object;
}

/** The answer of a list: one page, the total, and where the next page begins. Throws 400 `invalid_cursor`. */
export const listJson = async <Row extends Position>(request: CountedRequest<Row>): Promise<object> => {
  const page = await readPage(request);
  return {
    [request.as]: page.rows.map(request.toJson),
    ...some("nextCursor", page.nextCursor),
    totalCount: await totalOf(page, request.count),
  };
};
