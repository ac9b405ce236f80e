import { type RawBuilder, sql } from "kysely";
import type { Db } from "../database.ts";
import { transaction } from "../tx.ts";

/** Columns of values that are encrypted at rest, for what has to go through all of them. */

interface SealedColumn {
  readonly table: string;
  /** The primary key; joined by a space it is the row that a value is sealed for. */
  readonly key: readonly (readonly [column: string, type: "uuid" | "text"])[];
  readonly value: string;
}

const COLUMNS = {
  "runtime-broker-secret": { table: "broker_secrets", key: [["id", "uuid"]], value: "secret" },
  "agent-kept-value": {
    table: "agent_kept_values",
    key: [
      ["agent_id", "uuid"],
      ["key", "text"],
    ],
    value: "value",
  },
  "agent-config-value": {
    table: "agent_config_values",
    key: [
      ["agent_id", "uuid"],
      ["name", "text"],
    ],
    value: "value",
  },
  "idempotency-answer": {
    table: "idempotency_keys",
    key: [
      ["principal", "text"],
      ["key", "text"],
    ],
    value: "answer",
  },
} as const satisfies Readonly<Record<string, SealedColumn>>;

/** What a sealed value is; each is one column of one table. */
export type SealedPurpose = keyof typeof COLUMNS;

/** Every column of sealed values. */
export const SEALED_COLUMNS: Readonly<Record<SealedPurpose, SealedColumn>> = COLUMNS;

/** Every purpose, in the order in which they are best gone through: what lasts first. */
export const SEALED_PURPOSES: readonly SealedPurpose[] = [
  "runtime-broker-secret",
  "agent-kept-value",
  "agent-config-value",
  "idempotency-answer",
];

/** A row with a sealed value. */
export interface SealedRow {
  readonly key: readonly string[];
  /** The value where it does not begin as it should. */
  readonly stale: Buffer | null;
}

export interface SealedPage {
  /** How values begin that are not stale. */
  readonly present: Buffer;
  /** The key of the row before the page; undefined: from the beginning. */
  readonly after: readonly string[] | undefined;
  readonly limit: number;
}

/** A page of rows in the order of their keys. It costs its rows, however many of them are stale. */
export const listSealed = async (db: Db, purpose: SealedPurpose, page: SealedPage): Promise<readonly SealedRow[]> => {
  const { table, key, value } = SEALED_COLUMNS[purpose];
  const columns = sql.join(key.map(([column]) => sql.ref(column)));
  const texts = sql.join(key.map(([column]) => sql`${sql.ref(column)}::text`));
  const behind = page.after
    ? sql`(${columns}) > (${sql.join(key.map(([, type], i) => sql`${page.after?.[i]}::${sql.raw(type)}`))})`
    : sql`true`;
  const { rows } = await sql<SealedRow>`
    select array[${texts}] as key,
        case when substring(${sql.ref(value)} from 1 for ${page.present.byteLength}::int) <> ${page.present}
          then ${sql.ref(value)} end as stale
      from ${sql.table(table)} where ${behind}
     order by ${columns} limit ${page.limit}`.execute(db);
  return rows;
};

/** A value that was sealed anew. */
export interface Resealing {
  readonly key: readonly string[];
  readonly from: Buffer;
  readonly to: Buffer;
}

/** Puts the new forms in the place of the former ones where those still stand. Returns how many did. */
export const replaceSealed = async (db: Db, purpose: SealedPurpose, values: readonly Resealing[]): Promise<number> => {
  if (values.length === 0) return 0;
  const { table, key, value } = SEALED_COLUMNS[purpose];
  const names = key.map((_, i) => sql.ref(`k${i}`));
  const keys: readonly RawBuilder<unknown>[] = key.map(
    ([, type], i) => sql`${values.map((v) => v.key[i] ?? "")}::${sql.raw(type)}[]`,
  );
  const matches = sql.join(
    key.map(([column], i) => sql`t.${sql.ref(column)} = v.${sql.ref(`k${i}`)}`),
    sql` and `,
  );
  // Repeated when another run holds the same rows in another order.
  return transaction(db, async (tx) => {
    const { numAffectedRows } = await sql`
      update ${sql.table(table)} t set ${sql.ref(value)} = v.sealed_anew
        from unnest(${sql.join(keys)}, ${values.map((v) => v.from)}::bytea[], ${values.map((v) => v.to)}::bytea[])
          as v(${sql.join(names)}, sealed_before, sealed_anew)
       where ${matches} and t.${sql.ref(value)} = v.sealed_before`.execute(tx);
    return Number(numAffectedRows ?? 0n);
  });
};
