import type { Uuid } from "@rootstock/protocol";
import { type RawBuilder, sql } from "kysely";

/** A row's place in the order newest first. Times are kept to the millisecond, so a Date names it exactly. */
export interface Position {
  readonly created: Date;
  readonly id: Uuid;
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
