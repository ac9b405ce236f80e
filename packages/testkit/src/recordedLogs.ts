import { type ChildProcess, execFile } from "node:child_process";
import { appendFileSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { createLog, type Log, silentLog } from "@rootstock/service";
import { logFile, noteSecretsOfEnvironment, recordLog } from "./runRecord.ts";

/** The logs of whatever tests run of ours are kept for the end of the run, where they are searched for secrets. */

/**
 * A log that nobody sees, for parts that a test makes itself: kept for the end of the run, at the level that tells most.
 * Written at once, as nobody ends it.
 */
export const testLog = (name = "parts"): Log => {
  const file = logFile(name);
  return file === undefined
    ? silentLog()
    : createLog({ level: "trace", destination: { write: (line) => appendFileSync(file, line) } });
};

/** Keeps a text that a program has written to its log or its standard error. */
export const recordText = (name: string, text: string): void => {
  const file = logFile(name);
  if (file !== undefined && text !== "") appendFileSync(file, text.endsWith("\n") ? text : `${text}\n`);
};

/** Takes what a command of ours tells on its standard error into `lines`, and keeps it. */
export const heard =
  (lines: string[]) =>
  (line: string): void => {
    lines.push(line);
    recordText("commands", line);
  };

/** Keeps what a child writes to those of its outputs that are piped. `only`: one of them. */
export const recordOutput = (child: ChildProcess, name: string, only?: "stderr"): void => {
  const record = recordLog(name);
  for (const stream of only ? [child.stderr] : [child.stdout, child.stderr]) {
    if (!stream) continue;
    if (record) createInterface({ input: stream }).on("line", (line) => record.write(line));
    else stream.resume();
  }
  child.once("close", () => void record?.end());
};

/** Keeps the files below `directory` whose names end so, before whoever wrote them removes them. */
export const recordFiles = (directory: string, endings: readonly string[] = [".log"]): void => {
  if (logFile("files") === undefined) return;
  for (const entry of entriesOf(directory))
    if (endings.some((ending) => entry.endsWith(ending)))
      recordText(`file-${entry}`, readFileSync(join(directory, entry), "utf8"));
};

const entriesOf = (directory: string): readonly string[] => {
  try {
    return readdirSync(directory, { recursive: true, encoding: "utf8" });
  } catch {
    return [];
  }
};

/**
 * Runs a command of ours to its end; what it writes to its standard error is kept. Standard output is what it was asked
 * for, which may be a secret. Rejects as `execFile` does.
 */
export const runCommand = async (
  file: string,
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): Promise<{ readonly stdout: string; readonly stderr: string }> => {
  noteSecretsOfEnvironment(env);
  try {
    const done = await promisify(execFile)(file, args, { env });
    recordText("commands", done.stderr);
    return done;
  } catch (err) {
    recordText("commands", String(Reflect.get(Object(err), "stderr") ?? ""));
    throw err;
  }
};
