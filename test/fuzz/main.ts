import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startEmbeddedPostgres } from "@rootstock/testkit";
import { KINDS, type Kind } from "./identities.ts";
import { installed } from "./schemathesis.ts";
import { runSlice } from "./slice.ts";
import { Tally } from "./tally.ts";

const HELP = `npm run fuzz -- [--requests N] [--kinds a,b] [--seed S] [--examples E] [--venv FOLDER] [--verbose]

Generates requests from /api/v1/openapi.json and holds every answer against it, as each kind of principal in turn:
${KINDS.join(", ")}. Two replicas on a PostgreSQL of their own (TEST_DATABASE_URL if set) answer
by turns; their runtime brokers are connected, the providers of sign-in are there. schemathesis makes the requests.

  --requests N   at least so many per kind (default 10000), in slices, each in a world of its own
  --kinds        only these kinds
  --seed S       of the first slice (default: by the clock); slice i has S + i
  --examples E   per operation and slice (default 12): how deep a slice goes
  --venv FOLDER  the virtual environment of Python with schemathesis; made where there is none (needs python3 and PyPI)
  --verbose      what schemathesis prints, always, and what each operation answered

Ends with 1 if anything was found: any 5xx, a connection that broke, an answer that the document does not allow.
`;

const { values } = parseArgs({
  options: {
    requests: { type: "string", default: "10000" },
    kinds: { type: "string", default: KINDS.join(",") },
    seed: { type: "string" },
    examples: { type: "string", default: "12" },
    venv: { type: "string", default: join(tmpdir(), "rootstock-schemathesis") },
    verbose: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
const say = (text: string) => void process.stdout.write(`${text}\n`);
if (values.help) {
  say(HELP);
  process.exit(0);
}
const whole = (name: string, text: string): number => {
  const n = Number(text);
  if (Number.isInteger(n) && n >= 0) return n;
  process.stderr.write(`--${name} wants a whole number, not ${text}\n`);
  process.exit(2);
};
const kindsOf = (text: string): readonly Kind[] => {
  const names = text.split(",").map((name) => name.trim());
  const unknown = names.find((name) => !KINDS.some((kind) => kind === name));
  if (unknown === undefined) return KINDS.filter((kind) => names.includes(kind));
  process.stderr.write(`--kinds wants some of ${KINDS.join(", ")}, not ${unknown}\n`);
  process.exit(2);
};

const wanted = whole("requests", values.requests);
const examples = whole("examples", values.examples);
const first = values.seed === undefined ? Date.now() % 1_000_000 : whole("seed", values.seed);
const kinds = kindsOf(values.kinds);
// So that what was started ends, too: the exit is where it is taken care of.
for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => process.exit(1));
const program = await installed(values.venv);
const postgres = process.env.TEST_DATABASE_URL === undefined ? await startEmbeddedPostgres() : undefined;
if (postgres) process.env.TEST_DATABASE_URL = postgres.url;
let found = 0;
try {
  for (const kind of kinds) {
    const total = new Tally();
    for (let i = 0; total.requests < wanted; i += 1) {
      const folder = mkdtempSync(join(tmpdir(), "rootstock-fuzz-"));
      const slice = await runSlice({ kind, program, folder, seed: first + i, examples });
      rmSync(folder, { recursive: true, force: true });
      total.add(slice.tally);
      say(`${kind}: ${slice.tally.requests} requests with seed ${first + i}, ${slice.tally.failed} faults`);
      if (!slice.clean) found += 1;
      if (!slice.clean || values.verbose) say(slice.output);
      if (slice.tally.requests === 0) throw new Error(`nothing was asked:\n${slice.output}`);
    }
    found += total.failed;
    const statuses = [...total.byStatus].sort(([a], [b]) => a - b).map(([status, n]) => `${status}: ${n}`);
    say(`${kind}: ${total.requests} requests, ${total.failed} faults (${statuses.join(", ")})`);
    const share = (hundred: number) => `${(total.share(hundred) * 100).toFixed(1)} % ${hundred}xx`;
    say(`${kind}: ${share(2)}, ${share(4)}; ${total.carriedOut} of ${total.byOperation.size} operations carried out`);
    if (values.verbose)
      for (const [name, counts] of total.byOperation)
        say(`  ${name}: ${[...counts].map(([status, n]) => `${status}: ${n}`).join(", ")}`);
    for (const [what, { times, request, body }] of total.faults)
      say(`  ${times} x ${what}\n      ${request}\n      ${body}`);
  }
} finally {
  await postgres?.stop();
}
process.exit(found === 0 ? 0 : 1);
