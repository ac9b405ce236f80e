import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

/** One file of `migrations/`: forward only, never edited once released. */
export interface Migration {
  readonly number: number;
  readonly name: string;
  readonly sql: string;
  readonly checksum: string;
  /** Whether code that does not know this migration may go on serving (first line `-- compatible: yes`). */
  readonly compatible: boolean;
}

/** The checkout's own `migrations/`. */
export const MIGRATIONS_DIR = fileURLToPath(new URL("../../../migrations", import.meta.url));

const FILE = /^(\d{4})_([a-z0-9_]+)\.sql$/;
const FIRST_LINE = /^-- compatible: (yes|no)$/;

/** The migrations of a folder in order. Throws when two share a number, one is missing, or a first line is not as agreed. */
export const loadMigrations = async (dir: string = MIGRATIONS_DIR): Promise<readonly Migration[]> => {
  const migrations: Migration[] = [];
  for (const file of (await readdir(dir)).sort()) {
    if (!file.endsWith(".sql")) continue;
    const name = FILE.exec(file);
    const sql = await readFile(`${dir}/${file}`, "utf8");
    const first = FIRST_LINE.exec(sql.split("\n", 1)[0] ?? "");
    if (!name || !first)
      throw new Error(`migration ${file}: want NNNN_name.sql and a first line "-- compatible: yes|no"`);
    const number = Number(name[1]);
    if (number !== migrations.length + 1) throw new Error(`migration ${file}: want number ${migrations.length + 1}`);
    migrations.push({
      number,
      name: file,
      sql,
      checksum: createHash("sha256").update(sql).digest("hex"),
      compatible: first[1] === "yes",
    });
  }
  return migrations;
};
