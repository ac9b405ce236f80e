import type { Uuid } from "@rootstock/protocol";
import { type RawBuilder, sql } from "kysely";
import type { Db } from "../database.ts";

/** A row's place in the order newest first. Times are kept to the millisecond, so a Date names it exactly. */
export interface Position {
  readonly created: Date;
  readonly id: Uuid;
  /** In lists by name: the name. */
  readonly name?: string | undefined;
}

/** One page of a list, newest first: at most `limit` rows, those after `after`. */
export interface Page {
  readonly limit: number;
  readonly after?: Position | undefined;
}

/** A condition of a `where`. */
export type Condition = RawBuilder<boolean>;

/** All of the conditions; true when there are none. */
export const all = (conditions: readonly Condition[]): Condition =>
  conditions.length === 0 ? sql<boolean>`true` : sql<boolean>`(${sql.join(conditions, sql` and `)})`;

/** The rows after `position` of the table known as `alias`, in the order `created desc, id desc`. */
export const after = (alias: string, position: Position | undefined): Condition =>
  position === undefined
    ? sql<boolean>`true`
    : sql<boolean>`(${sql.ref(`${alias}.created`)}, ${sql.ref(`${alias}.id`)}) < (${position.created}, ${position.id}::uuid)`;

/** How many rows of a list are counted beyond its page before the rest is estimated: a count must not grow with the past. */
export const COUNTED_EXACTLY = 500;

/** How many rows there are on all pages of a list; an estimate when they are many. */
export interface Total {
  readonly total: number;
  readonly approximate: boolean;
}

/** A total of what was counted up to `most`, else of what is expected, asked at the same time. */
export const totalOf = (counted: number, most: number, expected: number): Total =>
  counted <= most
    ? { total: counted, approximate: false }
    : { total: Math.max(counted, Math.round(expected)), approximate: true };

/** How many rows the planner expects of a statement: it knows that from its statistics, without running it. */
export const expectedRows = async (db: Db, statement: RawBuilder<unknown>): Promise<number> => {
  const { rows } = await sql<{ "QUERY PLAN": readonly { Plan: { "Plan Rows": number } }[] }>`
    explain (format json) ${statement}`.execute(db);
  return rows[0]?.["QUERY PLAN"][0]?.Plan["Plan Rows"] ?? 0;
};
