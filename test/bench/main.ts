import { writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import type { Bench } from "./bench.ts";
import { startServer } from "./cluster.ts";
import { feed } from "./measures/feed.ts";
import { growth } from "./measures/growth.ts";
import { idle } from "./measures/idle.ts";
import { keystrokes } from "./measures/keystrokes.ts";
import { latency } from "./measures/latency.ts";
import { storm } from "./measures/storm.ts";
import { takeover } from "./measures/takeover.ts";
import { throughput } from "./measures/throughput.ts";
import { describeEnvironment, type Figure, table } from "./report.ts";

/**
 * `npm run bench [name...] [-- --json FILE] [--quick] [--profile FOLDER] [--statements] [--set name=value]`: what the hub costs beside
 * floors measured in the same run (design section 11).
 */

const BENCHES: Readonly<Record<string, Bench>> = {
  latency,
  throughput,
  takeover,
  idle,
  keystrokes,
  growth,
  feed,
  storm,
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: "string" },
    quick: { type: "boolean", default: false },
    profile: { type: "string" },
    statements: { type: "boolean", default: false },
    set: { type: "string", multiple: true, default: [] },
  },
});
const unknown = positionals.filter((name) => !(name in BENCHES));
if (unknown.length > 0) {
  process.stderr.write(`no benchmark ${unknown.join(", ")}; there are ${Object.keys(BENCHES).join(", ")}\n`);
  process.exit(2);
}
const say = (text: string) => void process.stderr.write(`  ${text}\n`);
const nodeOptions = values.profile ? `--cpu-prof --cpu-prof-dir=${resolve(values.profile)}` : undefined;
const settings = {
  ...(values.statements && {
    shared_preload_libraries: "pg_stat_statements",
    "pg_stat_statements.track_planning": "on",
  }),
  ...Object.fromEntries(values.set.map((s) => s.split("=", 2) as [string, string])),
};

const server = await startServer(settings);
const figures: Figure[] = [];
try {
  const database = await server.database();
  const environment = describeEnvironment(database.version, database.settings);
  await database.drop();
  process.stdout.write(
    `Node ${environment.node}, PostgreSQL ${environment.postgres} (${environment.settings}), ${environment.cores} x ${environment.cpu}, load ${environment.loadAverage.map((l) => l.toFixed(2)).join(" ")}\n`,
  );
  for (const name of positionals.length > 0 ? positionals : Object.keys(BENCHES)) {
    process.stderr.write(`${name}\n`);
    figures.push(...((await BENCHES[name]?.({ server, nodeOptions, quick: values.quick, say })) ?? []));
  }
  process.stdout.write(`${table(figures)}\n`);
  if (values.statements) process.stdout.write(`${await server.statements()}\n`);
  if (values.json) writeFileSync(values.json, `${JSON.stringify({ environment, figures }, undefined, 2)}\n`);
} finally {
  await server.stop();
}
process.exit(0);
