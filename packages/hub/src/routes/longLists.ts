import { HubError } from "@rootstock/protocol";
import type { Db, Position, Total } from "@rootstock/store";
import { z } from "zod";
import type { Principal } from "../auth/index.ts";
import type { ExactCounts } from "../limits/index.ts";
import { atLeastShown, type PageOf, type PageRequest, readPage, startOf } from "./pages.ts";
import type { Call } from "./route.ts";

/** Lists that may be long: what they hold is estimated from somewhere on, unless whoever asks needs to know. */

/**
 * `totalCount` of the query of lists that are estimated where they are long: `exact` has every row counted, for those who
 * need to know (spec/08 1.3 allows the estimate).
 */
export const totalQuery = { totalCount: z.enum(["exact", "estimated"]).optional() };

/** What such a list's answer has besides the usual fields of a page. */
export const totalFields = { totalCountApproximate: z.boolean().optional() };

/** A list that may be long, as one caller finds it. */
export interface LongList<Row extends Position> extends PageRequest<Row> {
  /** How many rows it has: exact where they are few, else an estimate. */
  readonly usual: () => Promise<Total>;
  /** Every row counted, which may take its time. */
  readonly all: (db: Db) => Promise<number>;
}

/** Who asks for such a list. */
export type LongListCall = Pick<
  Call<{ readonly totalCount?: "exact" | "estimated" | undefined }>,
  "principal" | "reauthenticate" | "signal" | "query"
>;

/**
 * One page of a list and how many rows there are in all; exact when that is asked for. All rows are counted before those
 * of the page are read: as many calls as like may wait for that, and none of them holds a page. So the list is looked up
 * anew after it, for who the caller is by then and what they may see.
 * @param listFor the list as this principal finds it
 * Throws 400 `invalid_cursor`, what `exactCounts` and `listFor` throw, and 401 for whoever is signed out meanwhile.
 */
export const readLongList = async <Row extends Position, List extends LongList<Row>>(
  exactCounts: Pick<ExactCounts, "of">,
  call: LongListCall,
  listFor: (principal: Principal) => Promise<List & LongList<Row>>,
): Promise<{ readonly list: List; readonly page: PageOf<Row>; readonly total: Total }> => {
  let list = await listFor(call.principal);
  let counted: Total | undefined;
  if (call.query.totalCount === "exact") {
    // Nobody waits for a count to be told then that the cursor is none.
    await startOf(list);
    counted = await list.usual();
    if (counted.approximate) {
      counted = exactly(await exactCounts.of(call, list.all));
      list = await listFor(await callerNow(call));
    }
  }
  const page = await readPage(list);
  if (page.complete) return { list, page, total: exactly(page.rows.length) };
  const { total, approximate } = counted ?? (await list.usual());
  return { list, page, total: { total: atLeastShown(page, total), approximate } };
};

/** A total as clients see it; one that is estimated says so (spec/08 1.3). */
export const totalJson = ({ total, approximate }: Total) => ({
  totalCount: total,
  ...(approximate && { totalCountApproximate: true }),
});

const exactly = (total: number): Total => ({ total, approximate: false });

/** A runtime broker's signature is good for one look; what it may see is told by the rows that name it. */
const callerNow = async ({ principal, reauthenticate }: LongListCall): Promise<Principal> => {
  if (principal.kind === "runtimeBroker") return principal;
  const now = await reauthenticate();
  if (now.kind !== principal.kind) throw new HubError("unauthorized", "missing authorization header");
  return now;
};
