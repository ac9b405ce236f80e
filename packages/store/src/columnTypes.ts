import type { ColumnType } from "kysely";

/** How columns read and write, by their name in the row types. `schemaDrift.test.ts` knows these names. */

/** A time kept to the millisecond; written as a Date, a text that PostgreSQL reads, or left to its default. */
export type Time = ColumnType<Date, Date | string, Date | string>;
export type DefaultTime = ColumnType<Date, Date | string | undefined, Date | string>;
export type NullableTime = ColumnType<Date | null, Date | string | null | undefined, Date | string | null>;
/** JSON, read parsed and written as JSON text. */
export type Json<T> = ColumnType<T, string, string>;
export type DefaultJson<T> = ColumnType<T, string | undefined, string>;
export type NullableJson<T> = ColumnType<T | null, string | null | undefined, string | null>;
export type Nullable<T> = ColumnType<T | null, T | null | undefined, T | null>;

/** What several tables keep: key and value of each label or annotation. */
export type Labels = Readonly<Record<string, string>>;
/** Who may see it beside those who may act on it (spec/03 5.6). */
export type Visibility = "private" | "team" | "public";
