import type { Figure, Report } from "./report.ts";
import type { Distribution } from "./samples.ts";

/**
 * Latency by percentile as an SVG that stands by itself: readable on light and dark ground, and without colours by its
 * labels and dashes.
 */

interface Curve {
  readonly label: string;
  readonly distribution: Distribution;
  /** Class of the stroke: what the hub does, or a floor it is held against. */
  readonly kind: string;
}

/** Bench and name of what is drawn, slowest last so that labels need little moving. */
const DRAWN: readonly (readonly [bench: string, name: string, label: string, kind: string])[] = [
  ["latency", "floor: bare hub, p50", "do-nothing hub (floor)", "floor"],
  ["latency", "floor: chain, p50", "chain (floor)", "floor dashed"],
  ["latency", "local message, p50", "local message", "a"],
  ["latency", "forwarded message, p50", "forwarded message", "b"],
  ["latency", "forwarded stop, p50", "forwarded stop", "c"],
];

const WIDTH = 760;
const HEIGHT = 396;
const PLOT = { left: 62, right: 520, top: 54, bottom: 364 };
/** Percentiles lie as far apart as their distances from 100 % differ in size. */
const TICKS = [0.5, 0.9, 0.99, 0.999, 0.9999];
const LABEL_GAP = 17;

const curvesOf = (figures: readonly Figure[]): Curve[] =>
  DRAWN.flatMap(([bench, name, label, kind]) => {
    const distribution = figures.find((f) => f.bench === bench && f.name === name)?.distribution;
    return distribution ? [{ label, distribution, kind }] : [];
  });

const place = (value: number): string => value.toFixed(1);

const escaped = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

/** The figure of a report. Throws when it holds no latencies. */
export const figureOf = (report: Report): string => {
  const curves = curvesOf(report.figures);
  if (curves.length === 0) throw new Error("the report holds no latencies to draw: run the benchmark `latency`");
  const points = curves.flatMap((c) => c.distribution.curve);
  const fractions = points.map(([fraction]) => fraction);
  const last = Math.max(...fractions);
  const values = points.map(([, ms]) => ms).filter((ms) => ms > 0);
  const [low, high] = [floorOf(Math.min(...values)), ceilingOf(Math.max(...values))];
  const decades = (fraction: number) => -Math.log10(1 - fraction);
  const x = (fraction: number) => PLOT.left + (decades(fraction) / decades(last)) * (PLOT.right - PLOT.left);
  const y = (ms: number) => PLOT.bottom - (Math.log(ms / low) / Math.log(high / low)) * (PLOT.bottom - PLOT.top);

  const lines = gridOf(low, high).map(
    (ms) =>
      `<line class="grid" x1="${PLOT.left}" x2="${PLOT.right}" y1="${place(y(ms))}" y2="${place(y(ms))}"/>` +
      `<text class="tick" x="${PLOT.left - 8}" y="${place(y(ms) + 4)}" text-anchor="end">${ms} ms</text>`,
  );
  const ticks = TICKS.filter((fraction) => fraction <= last + 1e-9).map(
    (fraction) =>
      `<line class="grid" x1="${place(x(fraction))}" x2="${place(x(fraction))}" y1="${PLOT.top}" y2="${PLOT.bottom}"/>` +
      `<text class="tick" x="${place(x(fraction))}" y="${PLOT.bottom + 18}" text-anchor="middle">p${+(fraction * 100).toFixed(2)}</text>`,
  );
  const paths = curves.map(({ distribution, kind }) => {
    const path = distribution.curve.filter(([, ms]) => ms > 0).map(([f, ms]) => `${place(x(f))},${place(y(ms))}`);
    return `<polyline class="curve ${kind}" points="${path.join(" ")}"/>`;
  });
  const ends = curves.map((c) => {
    const [fraction = last, ms = low] = c.distribution.curve.at(-1) ?? [];
    return { ...c, from: x(fraction), at: y(ms) };
  });
  const labels = spreadOut(ends).map(
    ({ label, kind, distribution, from, at, shown }) =>
      `<line class="leader" x1="${place(from + 3)}" x2="${PLOT.right + 14}" y1="${place(at)}" y2="${place(shown)}"/>` +
      `<text class="label ${kind}" x="${PLOT.right + 18}" y="${place(shown + 4)}">${escaped(label)} ` +
      `<tspan class="tick">${distribution.p50.toFixed(2)}</tspan></text>`,
  );
  const { environment } = report;
  const where = `${environment.cores} cores (${environment.cpu}), Node ${environment.node.slice(1)}, PostgreSQL ${environment.postgres}; one call at a time${report.quick ? "; a short run" : ""}; right: p50 in ms`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" role="img" aria-labelledby="title">
<title id="title">Latency by percentile, HTTP in to HTTP out</title>
<style>
${STYLE}
</style>
<rect class="ground" width="${WIDTH}" height="${HEIGHT}" rx="6"/>
<text class="head" x="${PLOT.left}" y="24">Latency by percentile, HTTP in to HTTP out</text>
<text class="tick" x="${PLOT.left}" y="41">${escaped(where)}</text>
${[...lines, ...ticks, ...paths, ...labels].join("\n")}
</svg>
`;
};

const STYLE = `.ground { fill: #ffffff } text { font: 12px ui-sans-serif, system-ui, "DejaVu Sans", sans-serif; fill: #1f2328 }
.head { font-size: 15px; font-weight: 600 } .tick { font-size: 11px; fill: #59636e; font-weight: 400 }
.grid { stroke: #d1d9e0; stroke-width: 1 } .leader { stroke: #9198a1; stroke-width: 1 }
.curve { fill: none; stroke-width: 2.25; stroke-linejoin: round } .label { font-weight: 600 }
.curve.floor { stroke: #818b98; stroke-width: 1.5 } .curve.dashed { stroke-dasharray: 6 4 } .label.floor { fill: #59636e; font-weight: 400 }
.curve.a { stroke: #1a7f37 } .label.a { fill: #1a7f37 } .curve.b { stroke: #0969da } .label.b { fill: #0969da }
.curve.c { stroke: #bc4c00 } .label.c { fill: #bc4c00 }
@media (prefers-color-scheme: dark) {
.ground { fill: #0d1117 } text { fill: #f0f6fc } .tick { fill: #9198a1 } .grid { stroke: #2f353d } .leader { stroke: #656c76 }
.curve.floor { stroke: #848d97 } .label.floor { fill: #9198a1 } .curve.a { stroke: #3fb950 } .label.a { fill: #3fb950 }
.curve.b { stroke: #58a6ff } .label.b { fill: #58a6ff } .curve.c { stroke: #f0883e } .label.c { fill: #f0883e } }`;

const STEPS = [1, 2, 5];

/** 0.1, 0.2, 0.5, 1, 2, 5, ... between the two. */
const gridOf = (low: number, high: number): number[] => {
  const grid: number[] = [];
  for (let power = -3; power <= 5; power += 1)
    for (const step of STEPS) {
      const ms = Number((step * 10 ** power).toPrecision(3));
      if (ms >= low && ms <= high) grid.push(ms);
    }
  return grid;
};

const floorOf = (ms: number): number => gridOf(0, ms).at(-1) ?? ms;
const ceilingOf = (ms: number): number => gridOf(ms, Number.POSITIVE_INFINITY)[0] ?? ms;

/** Labels in order of height, moved apart where they would cover each other. */
const spreadOut = <T extends { readonly at: number }>(ends: readonly T[]): (T & { shown: number })[] => {
  const sorted = ends.toSorted((a, b) => a.at - b.at).map((end) => ({ ...end, shown: end.at }));
  for (let round = 0; round < 100; round += 1)
    for (let i = 1; i < sorted.length; i += 1) {
      const [above, below] = [sorted[i - 1], sorted[i]];
      if (!above || !below) continue;
      const missing = LABEL_GAP - (below.shown - above.shown);
      if (missing <= 0) continue;
      above.shown -= missing / 2;
      below.shown += missing / 2;
    }
  return sorted;
};
