/** Durations as they are distributed, in milliseconds: what the table says in two numbers. */
export interface Distribution {
  readonly count: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
  /** Fraction of the samples and the duration below which they lie, for a curve. */
  readonly curve: readonly (readonly [fraction: number, ms: number])[];
}

/** How far the parts of a run lie apart. */
export interface Spread {
  readonly min: number;
  readonly max: number;
}

const PARTS = 5;
/** Enough for a curve from the fastest tenth to one in ten thousand. */
const CURVE = [
  0, 0.1, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999,
];

const at = (sorted: readonly number[], fraction: number): number =>
  sorted[Math.max(0, Math.ceil(fraction * sorted.length) - 1)] ?? Number.NaN;

const thousandth = (ms: number): number => Math.round(ms * 1000) / 1000;

/** Durations in milliseconds in the order in which they were taken, and what is read off them. */
export class Samples {
  readonly #values: number[] = [];

  add(ms: number): void {
    this.#values.push(ms);
  }

  addAll(values: readonly number[]): void {
    this.#values.push(...values);
  }

  get values(): readonly number[] {
    return this.#values;
  }

  all(): readonly number[] {
    return this.#values;
  }

  get max(): number {
    return this.#values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  }

  get count(): number {
    return this.#values.length;
  }

  /** The value below which `fraction` of the samples lie (nearest rank); NaN when there are none. */
  percentile(fraction: number): number {
    return at(
      this.#values.toSorted((a, b) => a - b),
      fraction,
    );
  }

  get p50(): number {
    return this.percentile(0.5);
  }

  get p99(): number {
    return this.percentile(0.99);
  }

  /** The smallest and the largest of this percentile among fifths of the run. */
  spread(fraction: number): Spread {
    const size = Math.max(1, Math.floor(this.#values.length / PARTS));
    const parts = Array.from({ length: PARTS }, (_, i) => this.#values.slice(i * size, (i + 1) * size));
    const values = parts
      .filter((p) => p.length > 0)
      .map((p) =>
        at(
          p.toSorted((a, b) => a - b),
          fraction,
        ),
      );
    return { min: Math.min(...values), max: Math.max(...values) };
  }

  /** All of it; points of the curve that one sample alone would decide are left out. */
  distribution(): Distribution {
    const sorted = this.#values.toSorted((a, b) => a - b);
    const p = (fraction: number) => thousandth(at(sorted, fraction));
    const told = CURVE.filter((fraction) => (1 - fraction) * sorted.length >= 2);
    return {
      count: sorted.length,
      p50: p(0.5),
      p90: p(0.9),
      p99: p(0.99),
      p999: p(0.999),
      max: p(1),
      curve: told.map((fraction) => [fraction, p(fraction)]),
    };
  }
}

/** How long `work` takes, in milliseconds. */
export const timed = async (work: () => Promise<unknown>): Promise<number> => {
  const started = performance.now();
  await work();
  return performance.now() - started;
};
