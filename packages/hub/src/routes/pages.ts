import type { Uuid } from "@rootstock/protocol";
import type { Page, Position, Total } from "@rootstock/store";
import { z } from "zod";
import { decodeCursor, encodeCursor, invalidCursor, some } from "../wire/index.ts";

/** `limit` and `cursor` of every list's query. A limit that is no positive number is ignored (spec/02 1.3). */
export const pageQuery = {
  limit: z.string().optional(),
  cursor: z.string().optional(),
};

/**
 * `totalCount` of the query of lists that are estimated where they are long: `exact` has every row counted, for those who
 * need to know (spec/08 1.3 allows the estimate).
 */
export const totalQuery = { totalCount: z.enum(["exact", "estimated"]).optional() };

/** What such a list's answer has besides the usual fields of a page. */
export const totalFields = { totalCountApproximate: z.boolean().optional() };

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
  const after = given.cursor ? await positionOf(request, given.cursor) : undefined;
  const found = await request.rows({ limit: limit + 1, after });
  const rows = found.slice(0, limit);
  const last = found.length > limit ? rows.at(-1) : undefined;
  return {
    rows,
    nextCursor: last && encodeCursor(list, filters, request.standsAt?.(last) ?? last),
    complete: after === undefined && last === undefined,
  };
};

const positionOf = async <Row extends Position>(request: PageRequest<Row>, text: string): Promise<Position> => {
  const cursor = decodeCursor(request.list, request.filters, text);
  if ("position" in cursor) return cursor.position;
  const position = await request.position(cursor.lastId);
  if (position === undefined) throw invalidCursor("the cursor names no row of this list");
  return position;
};

/** How many rows there are in all: those of the page when it holds them all, else counted. */
export const totalOf = async <Row>(page: PageOf<Row>, count: () => Promise<number>): Promise<number> =>
  page.complete ? page.rows.length : count();

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

/** How the total of a list is found that may be long. */
export interface LongList {
  /** What the caller asks for. */
  readonly asked: "exact" | "estimated" | undefined;
  /** Exact for short lists, else an estimate. */
  readonly usual: () => Promise<Total>;
  /** Every row counted, which may take its time. */
  readonly all: () => Promise<number>;
}

/** The total of a list that may be long; exact when that is asked for. Throws what `all` throws. */
export const totalOfLong = async (page: PageOf<unknown>, list: LongList): Promise<Total> => {
  if (page.complete) return exactly(page.rows.length);
  const usual = await list.usual();
  return usual.approximate && list.asked === "exact" ? exactly(await list.all()) : usual;
};

const exactly = (total: number): Total => ({ total, approximate: false });

/** A total as clients see it; one that is estimated says so (spec/08 1.3). */
export const totalJson = ({ total, approximate }: Total) => ({
  totalCount: total,
  ...(approximate && { totalCountApproximate: true }),
});
