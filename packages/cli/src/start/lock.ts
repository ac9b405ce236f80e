import { linkSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { CliError } from "../exitCodes.ts";
import { readJson } from "./files.ts";
import { identify, isAlive, type ProcessIdentity, parseIdentity } from "./processes.ts";

/**
 * One process at a time: one `rootstock start` per data directory, one command that renews a login. The lock is a file
 * that names its holder by process id and start time: it is stale, and taken over, exactly when that process lives no
 * more, however it died.
 */

/** Another run holds the data directory. */
export class AlreadyRunningError extends CliError {
  constructor(path: string, holder: ProcessIdentity) {
    super(
      `another "rootstock start" (pid ${holder.pid}) uses the data directory ${dirname(path)}.\n` +
        `Stop it with Ctrl-C or "kill ${holder.pid}", or choose another directory with --data or ROOTSTOCK_DATA.`,
    );
  }
}

/** Attempts at a lock that others take and leave at the same moment. */
const ATTEMPTS = 5;

const hasCode = (err: unknown, code: string): boolean =>
  typeof err === "object" && err !== null && "code" in err && err.code === code;

/** Creates `path` with its content in one step, so that nobody ever reads an empty lock. False when it exists. */
const create = (path: string, text: string): boolean => {
  const temporary = `${path}.${process.pid}.new`;
  writeFileSync(temporary, text, { mode: 0o600 });
  try {
    linkSync(temporary, path);
    return true;
  } catch (err) {
    if (hasCode(err, "EEXIST")) return false;
    throw err;
  } finally {
    rmSync(temporary, { force: true });
  }
};

/** Moves a stale lock away; a fresh one that somebody put there meanwhile goes back. */
const removeStale = (path: string): void => {
  const aside = `${path}.${process.pid}.stale`;
  try {
    renameSync(path, aside);
  } catch (err) {
    if (hasCode(err, "ENOENT")) return;
    throw err;
  }
  const moved = parseIdentity(readJson(aside));
  try {
    if (moved && isAlive(moved)) linkSync(aside, path);
  } finally {
    rmSync(aside, { force: true });
  }
};

/** What gives the lock back; or the living process that holds it. */
export type Lock = { readonly release: () => void } | { readonly holder: ProcessIdentity };

/** Takes the lock for this process, unless a living one, which may be this one, holds it. */
export const tryLock = (path: string): Lock => {
  const self = identify(process.pid);
  if (!self) throw new CliError("cannot read this process's own start time, which the lock is made of");
  for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
    if (create(path, JSON.stringify(self))) return { release: () => rmSync(path, { force: true }) };
    const holder = parseIdentity(readJson(path));
    if (holder && isAlive(holder)) return { holder };
    removeStale(path);
  }
  throw new CliError(`cannot take the lock ${path}: others keep taking it`);
};

/**
 * Takes the lock of `rootstock start` for this process and returns what gives it back.
 * @throws AlreadyRunningError when a living process holds it
 */
export const takeLock = (path: string): (() => void) => {
  const lock = tryLock(path);
  if ("holder" in lock) throw new AlreadyRunningError(path, lock.holder);
  return lock.release;
};
