import { cpus, loadavg, release, totalmem, type } from "node:os";
import type { Distribution, Samples, Spread } from "./samples.ts";

/** One measured figure. `target` and `ratio` say what it is held against; a figure without a target only informs. */
export interface Figure {
  readonly bench: string;
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** The floor that `ratio` is counted from, with its value in this run. */
  readonly against?: { readonly name: string; readonly value: number };
  readonly target?: { readonly text: string; readonly met: boolean };
  /** The smallest and the largest among the parts or repetitions of the run. */
  readonly spread?: Spread;
  /** All that was timed, for whoever wants more than a number. */
  readonly distribution?: Distribution;
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

/** A count of what must not happen. */
export const none = (bench: string, name: string, value: number): Figure => ({
  bench,
  name,
  value,
  unit: "",
  target: atMost(value, 0, "none"),
});

/** What `timesFigures` is told beside the samples; factors are the targets, as multiples of the floor. */
export interface TimesOptions {
  readonly against?: Figure["against"];
  readonly p50Factor?: number | undefined;
  readonly p99Factor?: number | undefined;
}

/** The p50 of samples, with the whole distribution, and their p99. */
export const timesFigures = (bench: string, name: string, samples: Samples, options: TimesOptions = {}): Figure[] => {
  const { against, p50Factor, p99Factor } = options;
  const held = (value: number, factor: number | undefined): Pick<Figure, "against" | "target"> => ({
    ...(against && { against }),
    ...(against && factor && { target: atMost(value, factor * against.value, `<= ${factor} x`) }),
  });
  const { p50, p99 } = samples;
  const common = { bench, unit: "ms" };
  return [
    {
      ...common,
      name: `${name}, p50`,
      value: p50,
      ...held(p50, p50Factor),
      spread: samples.spread(0.5),
      distribution: samples.distribution(),
    },
    { ...common, name: `${name}, p99`, value: p99, ...held(p99, p99Factor), spread: samples.spread(0.99) },
  ];
};

/** What the figures were measured on. */
export interface Environment {
  readonly node: string;
  readonly postgres: string;
  readonly settings: string;
  readonly system: string;
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGb: number;
  readonly started: string;
  /** Work of others on the machine before it began. */
  readonly loadAverage: readonly number[];
}

export const describeEnvironment = (postgres: string, settings: string): Environment => ({
  node: process.version,
  postgres,
  settings,
  system: `${type()} ${release()}`,
  cpu: cpus()[0]?.model ?? "unknown",
  cores: cpus().length,
  memoryGb: Math.round(totalmem() / 2 ** 30),
  started: new Date().toISOString(),
  loadAverage: loadavg(),
});

/** Everything of one run, as it is kept. */
export interface Report {
  readonly environment: Environment;
  readonly quick: boolean;
  readonly seconds: number;
  readonly figures: readonly Figure[];
}

/** A number for people. */
export const number = (value: number): string => {
  if (!Number.isFinite(value)) return "-";
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return Math.abs(value) >= 100 ? Math.round(value).toLocaleString("en") : value.toFixed(Math.abs(value) >= 10 ? 1 : 2);
};

/** A figure's value with its unit. */
export const valueText = (f: Figure): string => `${number(f.value)} ${f.unit}`.trim();

/** What it is of its floor; empty without one. */
export const ratio = (f: Figure): string =>
  f.against ? `${(f.value / f.against.value).toFixed(2)} x ${f.against.name} (${number(f.against.value)})` : "";

const cells = (f: Figure): string[] => [
  f.bench,
  f.name,
  valueText(f),
  f.spread ? `${number(f.spread.min)} - ${number(f.spread.max)}` : "",
  ratio(f),
  f.target ? `${f.target.text}: ${f.target.met ? "met" : "MISSED"}` : "",
];

/** The newer of two reports, with what only the older one measured. */
export const merged = (older: Report, newer: Report): Report => {
  const again = new Set(newer.figures.map((f) => f.bench));
  return { ...newer, figures: [...older.figures.filter((f) => !again.has(f.bench)), ...newer.figures] };
};

const RIGHT = new Set([2, 3]);

/** The figures as a table for people; Markdown as well. */
export const table = (figures: readonly Figure[]): string => {
  const rows = [["bench", "measure", "value", "spread", "ratio", "target"], ...figures.map(cells)];
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((r) => r[column]?.length ?? 0))) ?? [];
  const pad = (cell: string, i: number) => (RIGHT.has(i) ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0));
  const line = (row: readonly string[]) => `| ${row.map(pad).join(" | ")} |`;
  const [head = [], ...body] = rows;
  const rule = widths.map((w, i) => (RIGHT.has(i) ? `${"-".repeat(w - 1)}:` : "-".repeat(w)));
  return [line(head), `| ${rule.join(" | ")} |`, ...body.map(line)].join("\n");
};

/** How many targets there are, and which were missed. */
export const verdict = (figures: readonly Figure[]): string => {
  const held = figures.filter((f) => f.target);
  const missed = held.filter((f) => !f.target?.met);
  const list = missed.map((f) => `\n  ${f.bench}: ${f.name}: ${valueText(f)} (${f.target?.text})`).join("");
  return `${held.length - missed.length} of ${held.length} targets met${list && `; missed:${list}`}`;
};
