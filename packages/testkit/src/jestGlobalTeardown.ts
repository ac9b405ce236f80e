import { rmSync } from "node:fs";
import { faultsIn } from "./runRecord.ts";
import { searchRun } from "./runSearch.ts";

const MOST_SHOWN = 20;

/** Stops what the run's setup started, and fails the run when something logged a secret that a test made. */
export default async function teardown(): Promise<void> {
  await globalThis.rootstockTestServer?.stop();
  const dir = process.env.TEST_RUN_DIRECTORY;
  if (!dir) return;
  const begun = performance.now();
  const { leaks, secrets, lines } = await searchRun(dir);
  const seconds = ((performance.now() - begun) / 1000).toFixed(1);
  process.stderr.write(`${lines} log lines searched for ${secrets} secrets in ${seconds} s\n`);
  const faults = faultsIn(dir);
  rmSync(dir, { recursive: true, force: true });
  if (faults.length > 0)
    throw new Error(`${faults.length} answers are not as declared:\n${faults.slice(0, MOST_SHOWN).join("\n")}`);
  if (leaks.length === 0) return;
  const shown = leaks.slice(0, MOST_SHOWN).map(({ file, line }) => `  ${file}: ${line}`);
  throw new Error(`${leaks.length} log lines of this run hold a secret:\n${shown.join("\n")}`);
}
