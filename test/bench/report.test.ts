import { describe, expect, test } from "@jest/globals";
import { figureOf } from "./figure.ts";
import { withMeasured } from "./readme.ts";
import { atMost, type Figure, merged, none, type Report, table, timesFigures, verdict } from "./report.ts";
import { Samples } from "./samples.ts";

const samples = (...values: readonly number[]): Samples => {
  const all = new Samples();
  for (const value of values) all.add(value);
  return all;
};
const hundred = samples(...Array.from({ length: 100 }, (_, i) => i + 1));

const report = (figures: readonly Figure[]): Report => ({
  environment: {
    node: "v24.0.0",
    postgres: "18.4",
    settings: "fsync on",
    system: "Linux",
    cpu: "<fast>",
    cores: 2,
    memoryGb: 24,
    started: "2026-11-21T09:00:00.000Z",
    loadAverage: [0, 0, 0],
  },
  quick: false,
  seconds: 1,
  figures,
});

describe("samples", () => {
  test("percentiles are values that were measured", () => {
    expect([hundred.p50, hundred.p99, hundred.percentile(1)]).toEqual([50, 99, 100]);
    expect(samples().p50).toBeNaN();
  });

  test("the spread is that of the parts in the order in which they were taken", () => {
    expect(hundred.spread(0.5)).toEqual({ min: 10, max: 90 });
  });

  test("a curve ends where one sample alone would decide it", () => {
    const { curve, count, p999 } = hundred.distribution();
    expect([count, p999]).toEqual([100, 100]);
    expect(curve.at(-1)).toEqual([0.98, 98]);
  });
});

describe("a report", () => {
  const chain = { name: "chain p50", value: 20 };
  const figures = [
    ...timesFigures("latency", "forwarded message", hundred, { against: chain, p50Factor: 2, p99Factor: 5 }),
    none("latency", "lost", 0),
  ];

  test("holds each figure against its floor, and says which targets were missed", () => {
    expect(table(figures)).toMatch(/forwarded message, p50 .* 50 ms .* 2\.50 x chain p50 \(20\) .* MISSED/);
    expect(table(figures)).toMatch(/forwarded message, p99 .* 4\.95 x .* met/);
    expect(verdict(figures)).toMatch(/^2 of 3 targets met; missed:\n {2}latency: forwarded message, p50: 50 ms/);
  });

  test("takes the place of what an older one said of the same benchmarks, and of no other", () => {
    const older = report([none("latency", "old", 1), none("soak", "lost", 0)]);
    expect(merged(older, report(figures)).figures.map((f) => f.name)).toEqual([
      "lost",
      "forwarded message, p50",
      "forwarded message, p99",
      "lost",
    ]);
  });

  test("is written between its marks, again and again, and nowhere else", () => {
    const text =
      "before\n\n<!-- measured: costs -->\nold\n<!-- end -->\n\nbetween\n<!-- measured: ground -->\n<!-- end -->\n";
    const slow: Figure = { bench: "a", name: "b", value: 3, unit: "ms", target: atMost(3, 2, "<= 2 ms") };
    const once = withMeasured(text, report([slow, none("a", "lost", 2)]));
    expect(once).toMatch(/^before\n\n<!-- measured: costs -->\n\n\| benchmark/);
    expect(once).toContain("| a | b | 3 ms |  | <= 2 ms | **missed** |");
    expect(once).toContain("Not none: a: lost (2).");
    expect(once).not.toContain("old");
    expect(withMeasured(once, report([slow, none("a", "lost", 2)]))).toBe(once);
  });

  test("is drawn as a picture of what was measured, with text that breaks no markup", () => {
    const svg = figureOf(report(figures));
    expect(svg).toContain("forwarded message");
    expect(svg).toContain("&lt;fast>");
    expect(svg).not.toContain("NaN");
    expect(() => figureOf(report([]))).toThrow(/latency/);
  });
});
