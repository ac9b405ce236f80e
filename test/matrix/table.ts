import { type Does, doesName } from "@rootstock/hub";
import type { Caller } from "./callers.ts";
import type { AnyRoute } from "./request.ts";

/** The table that people review: a line per route, a column per kind of principal. */

/** What became of one call, as far as access goes. */
export type Cell = "ok" | "-" | "401" | "403" | "404" | "failed";

/** What was found of a route: a cell per caller, in their order. */
export interface Row {
  /** The methods in a row of their own each, unless they do the same to nothing. */
  readonly methods: string;
  readonly route: Pick<AnyRoute, "path" | "does">;
  readonly cells: readonly Cell[];
}

const METHODS = ["*", "GET", "POST", "PUT", "PATCH", "DELETE", "WS", "SSE"];
const ORDER = ["hub", "project", "agent", "runtimeBroker"];

/** The kinds of resources, those that are the same for all last. */
const rank = ({ on }: Does): string => {
  const at = ORDER.indexOf(on);
  if (at >= 0) return `0${at}`;
  return on === "nothing" ? "3" : on === "public" ? "2" : `1${on}`;
};

/** The whole table, legend included. */
export const render = (rows: readonly Row[], callers: readonly Caller[]): string => {
  const columns = columnsOf(callers);
  const sorted = [...rows].sort(
    (a, b) =>
      compare(rank(a.route.does), rank(b.route.does)) ||
      compare(a.route.path, b.route.path) ||
      METHODS.indexOf(a.methods) - METHODS.indexOf(b.methods),
  );
  const name = (row: Row) => `${row.methods} ${row.route.path}`;
  const names = Math.max(...sorted.map((row) => name(row).length)) + 1;
  const does = Math.max(...sorted.map((row) => doesName(row.route.does).length)) + 1;
  const heading = `${"route".padEnd(names)}${"does".padEnd(does)}${columns.map(([code]) => code.padEnd(4)).join("")}`;
  const line = (first: string, second: string, row: Row) => {
    const cells = columns.map(([, places]) => fold(places, row, callers).padEnd(4)).join("");
    return `${first.padEnd(names)}${second.padEnd(does)}${cells}`.trimEnd();
  };
  const own = sorted.filter((row) => !isCommon(row)).map((row) => line(name(row), doesName(row.route.does), row));
  const blocks = new Map<string, string[]>();
  for (const row of sorted.filter(isCommon)) {
    const heading = line("(all below)", doesName(row.route.does), row);
    blocks.set(heading, [...(blocks.get(heading) ?? []), `  ${name(row)}`]);
  }
  const common = [...blocks].flatMap(([heading, members]) => ["", heading, ...members]);
  return `${[...legend(columns, callers), heading.trimEnd(), ...own, ...common].join("\n")}\n`;
};

/** Rows of which there are many, all alike. */
const isCommon = ({ route: { does } }: Row): boolean => does.on === "nothing" || does.on === "public";

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

type Column = readonly [code: string, places: readonly number[]];

/** Shared columns come last, the one whose callers differ very last: what is in it is of any length. */
const columnsOf = (callers: readonly Caller[]): readonly Column[] => {
  const columns = new Map<string, number[]>();
  for (const [i, { code }] of callers.entries()) columns.set(code, [...(columns.get(code) ?? []), i]);
  const place = ([code, { length }]: Column) => (length === 1 ? 0 : code === "bad" ? 1 : 2);
  return [...columns].sort((a, b) => place(a) - place(b));
};

/** One cell, or for several callers the most frequent one and the others by name. */
const fold = (places: readonly number[], row: Row, callers: readonly Caller[]): string => {
  const cells = places.map((i) => [row.cells[i] ?? "failed", callers[i]?.variant ?? ""] as const);
  const counts = new Map<Cell, string[]>();
  for (const [cell, variant] of cells) counts.set(cell, [...(counts.get(cell) ?? []), variant]);
  const [[usual] = ["failed" as const], ...rest] = [...counts].sort(([, a], [, b]) => b.length - a.length);
  return [usual, ...rest.map(([cell, variants]) => `${cell}: ${variants.join(" ")}`)].join("; ");
};

const legend = (columns: readonly Column[], callers: readonly Caller[]): readonly string[] => [
  "Who may do what: every route, WebSocket (WS) and subject of the event stream (SSE) of a replica, as declared, called",
  "as every kind of principal.",
  "",
  "ok   the access check is passed, whatever else is said of the request; a list shows what the other routes are about",
  "-    a list without it; an event that is not heard",
  "401  not known, or nothing that proves who it is",
  "403  known, and may not",
  "404  what is there is hidden from whoever may not even read it",
  "",
  "Written by `UPDATE_MATRIX=1 npm test -- test/matrix`, from what a replica answers, and checked by the same. Every change",
  "of a line is a change of somebody's rights: it is reviewed, never merely accepted.",
  "",
  ...columns.map(([code, [place = 0]]) => `${code.padEnd(4)} ${callers[place]?.about ?? ""}`),
  "",
];
