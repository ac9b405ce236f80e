import { UsageError } from "../exitCodes.ts";
import { table } from "../table.ts";
import type { Asked, Flag } from "./command.ts";

/** What a command prints: for people, or as the hub has answered. */
export interface Shown {
  readonly text: () => Promise<string>;
  readonly json: () => Promise<unknown>;
}

/** Heading and cell of each column. */
export type Columns<Row> = Readonly<Record<string, (row: Row) => string | undefined>>;

/** For lists: at most so many rows. */
export const LIMIT: Flag = { flag: "--limit <n>", description: "at most so many; all by default" };

/** The rows of a list, page after page, as far as `--limit` says. */
export const list = <Row>(
  asked: Asked,
  rows: AsyncIterable<Row>,
  columns: Columns<Row>,
  none: string,
): Promise<Shown> => {
  const limit = limitOf(asked);
  const read = () => taken(rows, limit);
  const cells = Object.values(columns);
  return Promise.resolve({
    json: read,
    text: async () => {
      const found = await read();
      if (found.length === 0) return none;
      return table(
        Object.keys(columns),
        found.map((row) => cells.map((cell) => oneLine(cell(row) ?? ""))),
      );
    },
  });
};

const limitOf = ({ flag }: Asked): number => {
  const given = flag("limit");
  if (given === undefined) return Number.POSITIVE_INFINITY;
  if (!/^[1-9]\d{0,6}$/.test(given)) throw new UsageError([`--limit: want a whole number above 0, got "${given}"`]);
  return Number(given);
};

/** Asks for no page more than are wanted. */
const taken = async <Row>(rows: AsyncIterable<Row>, limit: number): Promise<readonly Row[]> => {
  const found: Row[] = [];
  for await (const row of rows) {
    found.push(row);
    if (found.length >= limit) break;
  }
  return found;
};

/** One thing: a line for each field that says something. */
export const one = (value: object): Shown => ({
  json: async () => value,
  text: async () => {
    const fields = Object.entries(value).filter(([name, of]) => !name.startsWith("_") && of !== undefined && of !== "");
    const width = Math.max(...fields.map(([name]) => name.length));
    return fields.map(([name, of]) => `${name.padEnd(width)}  ${oneLine(inWords(of))}`).join("\n");
  },
});

/** What was done. `value`: the hub's answer, where there is one. */
export const done = (text: string, value: object = {}): Shown => ({
  json: async () => value,
  text: async () => text,
});

const inWords = (value: unknown): string => {
  if (typeof value === "string") return value;
  if (Array.isArray(value) && value.every((part) => typeof part === "string")) return value.join(", ");
  return JSON.stringify(value);
};

/** What people have written may hold anything: a terminal is not to be told by it what to do. */
const oneLine = (text: string): string => text.replace(/\p{Cc}+/gu, " ");

/** A time as lists show it; nothing for one that never was. */
export const when = (time: string | undefined): string | undefined => (time?.startsWith("0001-") ? undefined : time);
