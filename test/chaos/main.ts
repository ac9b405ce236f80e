import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startEmbeddedPostgres } from "@rootstock/testkit";
import { type RoundResult, runRound } from "./round.ts";
import { tell } from "./schedule.ts";

/**
 * `npm run chaos -- [--rounds N] [--seed S] [--seconds T] [--keep FOLDER]`: random faults while the hub is under load, and
 * a checker that reads the history (design section 2). Round `i` has the seed S + i; the same seed strikes alike.
 */

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    seed: { type: "string" },
    seconds: { type: "string", default: "20" },
    replicas: { type: "string", default: "3" },
    "runtime-brokers": { type: "string", default: "12" },
    senders: { type: "string", default: "8" },
    verbose: { type: "boolean", default: false },
    /** Where histories and logs of rounds with a breach go. */
    keep: { type: "string" },
  },
});
const whole = (name: string, text: string): number => {
  const n = Number(text);
  if (Number.isInteger(n) && n >= 0) return n;
  process.stderr.write(`--${name} wants a whole number, not ${text}\n`);
  process.exit(2);
};
const SHOWN = 8;

const keep = (folder: string, seed: number, { round, logs }: RoundResult): void => {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `${seed}.json`), JSON.stringify(round));
  for (const [name, log] of logs) writeFileSync(join(folder, `${seed}-${name}.log`), log);
};

const say = (text: string) => void process.stdout.write(`${text}\n`);
const first = values.seed === undefined ? Date.now() % 1_000_000 : whole("seed", values.seed);
const rounds = whole("rounds", values.rounds);
const postgres = await startEmbeddedPostgres();
let broken = 0;
try {
  for (let i = 0; i < rounds; i += 1) {
    const seed = first + i;
    const began = performance.now();
    const result = await runRound(postgres, {
      seed,
      seconds: whole("seconds", values.seconds),
      replicas: whole("replicas", values.replicas),
      runtimeBrokers: whole("runtime-brokers", values["runtime-brokers"]),
      senders: whole("senders", values.senders),
      ...(values.verbose && { say }),
    });
    const figures = Object.entries(result.figures).map(([name, value]) => `${name} ${value}`);
    const took = ((performance.now() - began) / 1_000).toFixed(0);
    say(
      `seed ${seed}: ${result.breaches.length === 0 ? "kept" : `${result.breaches.length} BREACHES`} (${figures.join(", ")}; ${took} s)`,
    );
    if (result.breaches.length === 0) continue;
    broken += 1;
    say(tell(result.schedule));
    for (const { rule, what } of result.breaches.slice(0, SHOWN)) say(`  ${rule}: ${what}`);
    if (values.keep) keep(values.keep, seed, result);
  }
} finally {
  await postgres.stop();
}
say(`${rounds - broken} of ${rounds} rounds kept every promise`);
process.exit(broken === 0 ? 0 : 1);
