import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startEmbeddedPostgres } from "@rootstock/testkit";
import { factsOf, groupBy } from "./breach.ts";
import { type RoundResult, runRound } from "./round.ts";
import { tell } from "./schedule.ts";
import { BESIDE, type Beside, Versions } from "./versions.ts";

const HELP = `npm run chaos -- [--rounds N] [--seed S] [--seconds T] [--beside VERSION] [--keep FOLDER] [--verbose]

Random faults while the hub is under load, and a checker that reads the history: lost, doubled, out of order, run twice at
once, told by a replica that has no say any more. Round i has the seed S + i; the same seed strikes alike.

  --rounds N           how many (5)
  --seed S             of the first round (by the clock)
  --seconds T          how long the load of a round lasts (20)
  --replicas N, --runtime-brokers N, --senders N
                       the size of the world (3, 20, 8)
  --beside VERSION     another version of the code beside this one: none; before, the newest release, or the last commit that
                       knew one migration less; next, this code with one more (by the seed: two rounds in three have one)
  --commit COMMIT      what "before" is
  --keep FOLDER        where histories and logs of rounds with a breach go
  --verbose            tells each strike

Ends with 1 if a promise was broken.
`;

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    seed: { type: "string" },
    seconds: { type: "string", default: "20" },
    replicas: { type: "string", default: "3" },
    "runtime-brokers": { type: "string", default: "20" },
    senders: { type: "string", default: "8" },
    beside: { type: "string" },
    commit: { type: "string" },
    verbose: { type: "boolean", default: false },
    keep: { type: "string" },
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
const SHOWN = 8;

const besideOf = (seed: number): Beside => {
  const asked = BESIDE.find((b) => b === values.beside);
  if (values.beside === undefined || asked) return asked ?? BESIDE[seed % BESIDE.length] ?? "none";
  process.stderr.write(`--beside wants one of ${BESIDE.join(", ")}, not ${values.beside}\n`);
  process.exit(2);
};

/** The options with which the same schedule is drawn for the same world. */
const again = (seed: number): string => {
  const same = (["seconds", "replicas", "runtime-brokers", "senders", "commit"] as const).flatMap((name) =>
    values[name] === undefined ? [] : [`--${name} ${values[name]}`],
  );
  return [`--rounds 1 --seed ${seed} --beside ${besideOf(seed)}`, ...same].join(" ");
};

const keep = (folder: string, seed: number, { round, logs }: RoundResult): void => {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `${seed}.json`), JSON.stringify(round));
  for (const [name, log] of logs) writeFileSync(join(folder, `${seed}-${name}.log`), log);
};

const first = values.seed === undefined ? Date.now() % 1_000_000 : whole("seed", values.seed);
const rounds = whole("rounds", values.rounds);
// So that what was started ends, too: the exit is where it is taken care of.
for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => process.exit(1));
const versions = new Versions(values.commit);
const postgres = await startEmbeddedPostgres();
let broken = 0;
try {
  for (let i = 0; i < rounds; i += 1) {
    const seed = first + i;
    const began = performance.now();
    const codes = await versions.beside(besideOf(seed));
    const result = await runRound(postgres, {
      seed,
      codes,
      seconds: whole("seconds", values.seconds),
      replicas: whole("replicas", values.replicas),
      runtimeBrokers: whole("runtime-brokers", values["runtime-brokers"]),
      senders: whole("senders", values.senders),
      ...(values.verbose && { say }),
    });
    const figures = Object.entries(result.figures).map(([name, value]) => `${name} ${value}`);
    const took = ((performance.now() - began) / 1_000).toFixed(0);
    say(
      `seed ${seed} (${codes.map((c) => c.name).join(" beside ")}): ${result.breaches.length === 0 ? "kept" : `${result.breaches.length} BREACHES`} (${figures.join(", ")}; ${took} s)`,
    );
    const faults = groupBy(factsOf(result.round.facts, "fault"), (f) => f.what);
    say(
      `  struck: ${[...faults].map(([what, { length }]) => `${what}${length > 1 ? ` ${length} times` : ""}`).join(", ")}`,
    );
    if (result.breaches.length === 0) continue;
    broken += 1;
    say(tell(result.schedule));
    say(`  again: npm run chaos -- ${again(seed)}`);
    for (const { rule, what } of result.breaches.slice(0, SHOWN)) say(`  ${rule}: ${what}`);
    if (values.keep) keep(values.keep, seed, result);
  }
} finally {
  await postgres.stop();
  await versions.remove();
}
say(`${rounds - broken} of ${rounds} rounds kept every promise`);
process.exit(broken === 0 ? 0 : 1);
