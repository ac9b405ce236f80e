import { cpus, loadavg } from "node:os";

/** One measured figure. `target` and `ratio` say what it is held against; a figure without a target only informs. */
export interface Figure {
  readonly bench: string;
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** The floor that `ratio` is counted from, with its value in this run. */
  readonly against?: { readonly name: string; readonly value: number };
  readonly target?: { readonly text: string; readonly met: boolean };
}

/** A figure that must not be above `max`. */
export const atMost = (value: number, max: number, text: string): NonNullable<Figure["target"]> => ({
  text,
  met: value <= max,
});

/** A figure that must not be below `min`. */
export const atLeast = (value: number, min: number, text: string): NonNullable<Figure["target"]> => ({
  text,
  met: value >= min,
});

export interface Environment {
  readonly node: string;
  readonly postgres: string;
  readonly settings: string;
  readonly cpu: string;
  readonly cores: number;
  readonly started: string;
  readonly loadAverage: readonly number[];
}

/** What the figures were measured on. */
export const describeEnvironment = (postgres: string, settings: string): Environment => ({
  node: process.version,
  postgres,
  settings,
  cpu: cpus()[0]?.model ?? "unknown",
  cores: cpus().length,
  started: new Date().toISOString(),
  loadAverage: loadavg(),
});

const number = (value: number): string => {
  if (!Number.isFinite(value)) return "-";
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return value >= 100 ? Math.round(value).toLocaleString("en") : value.toFixed(value >= 10 ? 1 : 2);
};

const cells = (f: Figure): string[] => [
  f.bench,
  f.name,
  `${number(f.value)} ${f.unit}`.trim(),
  f.against ? `${(f.value / f.against.value).toFixed(2)} x ${f.against.name} (${number(f.against.value)})` : "",
  f.target ? `${f.target.text}: ${f.target.met ? "met" : "MISSED"}` : "",
];

/** The figures as a table for people. */
export const table = (figures: readonly Figure[]): string => {
  const rows = [["bench", "measure", "value", "ratio", "target"], ...figures.map(cells)];
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((r) => r[column]?.length ?? 0))) ?? [];
  const line = (row: readonly string[]) =>
    `| ${row.map((cell, i) => (i === 2 ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0))).join(" | ")} |`;
  const [head = [], ...body] = rows;
  return [line(head), `| ${widths.map((w) => "-".repeat(w)).join(" | ")} |`, ...body.map(line)].join("\n");
};
