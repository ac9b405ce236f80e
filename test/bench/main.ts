import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { Bench } from "./bench.ts";
import { startServer } from "./cluster.ts";
import { figureOf } from "./figure.ts";
import { access } from "./measures/access.ts";
import { feed } from "./measures/feed.ts";
import { growth } from "./measures/growth.ts";
import { idle } from "./measures/idle.ts";
import { keystrokes } from "./measures/keystrokes.ts";
import { latency } from "./measures/latency.ts";
import { soak } from "./measures/soak.ts";
import { storm } from "./measures/storm.ts";
import { survival } from "./measures/survival.ts";
import { takeover } from "./measures/takeover.ts";
import { throughput } from "./measures/throughput.ts";
import { withMeasured } from "./readme.ts";
import { describeEnvironment, type Figure, merged, type Report, table, verdict } from "./report.ts";

const HELP = `npm run bench [-- name... options]: what the hub costs, beside floors measured in the same run (design section 11)

  name             which to run; without any, all but soak: latency, throughput, takeover, keystrokes, feed, idle,
                   storm, survival, growth, access
  --json FILE      writes the report, with the distribution of everything that was timed
  --from FILE      runs nothing: takes the report that --json wrote, for the table and the figure
  --figure FILE    draws latency by percentile as an SVG
  --publish        puts the report beside the ones before in test/bench/figures, draws the picture, and writes the numbers
                   into the README
  --quick          a fraction of the time; the figures mean little
  --minutes N      how long the soak lasts (15)
  --profile DIR    CPU profiles of the replicas
  --statements     what each statement cost PostgreSQL
  --set NAME=VALUE a setting of PostgreSQL
`;

const BENCHES: Readonly<Record<string, Bench>> = {
  latency,
  throughput,
  takeover,
  keystrokes,
  feed,
  idle,
  storm,
  survival,
  growth,
  access,
  soak,
};
const USUAL = Object.keys(BENCHES).filter((name) => name !== "soak");

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: "string" },
    from: { type: "string" },
    figure: { type: "string" },
    publish: { type: "boolean", default: false },
    quick: { type: "boolean", default: false },
    minutes: { type: "string", default: "15" },
    profile: { type: "string" },
    statements: { type: "boolean", default: false },
    set: { type: "string", multiple: true, default: [] },
    help: { type: "boolean", default: false },
  },
});
const names = positionals.length > 0 ? positionals : USUAL;
const unknown = names.filter((name) => !(name in BENCHES));
if (values.help || unknown.length > 0 || !(Number(values.minutes) > 0)) {
  process.stderr.write(unknown.length > 0 ? `no benchmark ${unknown.join(", ")}\n\n${HELP}` : HELP);
  process.exit(values.help ? 0 : 2);
}
// Whoever was started ends with this process: only at its exit, not by a signal's death, are they told.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));
const say = (text: string) => void process.stderr.write(`  ${text}\n`);

const run = async (): Promise<Report> => {
  const nodeOptions = values.profile ? `--cpu-prof --cpu-prof-dir=${resolve(values.profile)}` : undefined;
  const settings = {
    ...(values.statements && {
      shared_preload_libraries: "pg_stat_statements",
      "pg_stat_statements.track_planning": "on",
    }),
    ...Object.fromEntries(values.set.map((s) => s.split("=", 2) as [string, string])),
  };
  const started = performance.now();
  const server = await startServer(settings);
  try {
    const database = await server.database();
    const environment = describeEnvironment(database.version, database.settings);
    await database.drop();
    const figures: Figure[] = [];
    for (const name of names) {
      const seconds = Math.round((performance.now() - started) / 1000);
      process.stderr.write(`${name} (after ${seconds} s)\n`);
      const context = { server, nodeOptions, quick: values.quick, minutes: Number(values.minutes), say };
      figures.push(...((await BENCHES[name]?.(context)) ?? []));
    }
    if (values.statements) process.stdout.write(`${await server.statements()}\n`);
    return { environment, quick: values.quick, seconds: (performance.now() - started) / 1000, figures };
  } finally {
    await server.stop();
  }
};

const near = (path: string) => fileURLToPath(new URL(path, import.meta.url));

const publish = (latest: Report): void => {
  const [kept, picture, readme] = [near("figures/report.json"), near("figures/latency.svg"), near("../../README.md")];
  const all = existsSync(kept) ? merged(JSON.parse(readFileSync(kept, "utf8")), latest) : latest;
  const inOrder = Object.keys(BENCHES).flatMap((name) => all.figures.filter((f) => f.bench === name));
  const whole: Report = { ...all, figures: inOrder };
  writeFileSync(kept, `${JSON.stringify(whole)}\n`);
  if (whole.figures.some((f) => f.bench === "latency")) writeFileSync(picture, figureOf(whole));
  writeFileSync(readme, withMeasured(readFileSync(readme, "utf8"), whole));
};

const report: Report = values.from ? JSON.parse(readFileSync(values.from, "utf8")) : await run();
const { environment, figures } = report;
const load = environment.loadAverage.map((l) => l.toFixed(2)).join(" ");
process.stdout.write(
  `Node ${environment.node}, PostgreSQL ${environment.postgres} (${environment.settings}), ${environment.cores} x ${environment.cpu}, ` +
    `${environment.memoryGb} GB, ${environment.system}, load before ${load}; ${Math.round(report.seconds)} s\n` +
    `${table(figures)}\n${verdict(figures)}\n`,
);
if (values.json) writeFileSync(values.json, `${JSON.stringify(report, undefined, 1)}\n`);
if (values.figure) writeFileSync(values.figure, figureOf(report));
if (values.publish) publish(report);
process.exit(0);
