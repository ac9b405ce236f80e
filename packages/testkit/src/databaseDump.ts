import type { TestDatabase } from "./testDatabase.ts";

/** Every row of every table as text, bytes as hexadecimal digits. */
export const dumpOf = async (
  database: TestDatabase,
): Promise<readonly { readonly table: string; readonly text: string }[]> => {
  const tables = await database.query<{ name: string }>(
    "select tablename as name from pg_tables where schemaname = 'public'",
  );
  const rows: { table: string; text: string }[] = [];
  for (const { name } of tables)
    for (const { row } of await database.query<{ row: string }>(`select row_to_json(t)::text as row from ${name} t`))
      rows.push({ table: name, text: row });
  return rows;
};

/** Whether a text holds a secret as it is, in base64 wherever it begins there, or as hexadecimal digits of either. */
export const holdsSecret = (text: string, secret: string): boolean => {
  const asGiven = Buffer.from(secret);
  const decoded = /^[\w+/-]{40,}=*$/.test(secret) ? [Buffer.from(secret, "base64")] : [];
  const forms = [asGiven, ...decoded].flatMap((bytes) => [
    bytes.toString("hex"),
    ...[0, 1, 2].map((shift) => {
      // What stands before and behind it changes the characters at the ends.
      const encoded = Buffer.concat([Buffer.alloc(shift), bytes]).toString("base64");
      return encoded.slice(shift === 0 ? 0 : 4, Math.floor(encoded.length / 4) * 4 - 4);
    }),
  ]);
  return [secret, JSON.stringify(secret).slice(1, -1), ...forms].some((form) => text.includes(form));
};
