import type { Clock } from "@rootstock/service";
import { readJson, writePrivate } from "./files.ts";
import { isAlive, type ProcessIdentity, parseIdentity, signalProcess } from "./processes.ts";

/** A process that a run has started, as it is noted down. */
export interface LedgerEntry extends ProcessIdentity {
  readonly name: string;
}

/**
 * The processes of a run, noted in a file as they come and go. A run that was killed without warning leaves them
 * behind (the database above all, which nobody else ends); the next run reads the note and ends them first.
 */
export class Ledger {
  readonly #path: string;
  readonly #entries = new Map<string, ProcessIdentity>();

  constructor(path: string) {
    this.#path = path;
  }

  /** Notes that `name` now is this process. */
  note(name: string, identity: ProcessIdentity): void {
    this.#entries.set(name, identity);
    this.#write();
  }

  forget(name: string): void {
    if (this.#entries.delete(name)) this.#write();
  }

  /** The processes of an earlier run that still live. */
  leftovers(): readonly LedgerEntry[] {
    const noted = readJson(this.#path);
    if (!Array.isArray(noted)) return [];
    return noted.flatMap((value: unknown) => {
      const identity = parseIdentity(value);
      const name = typeof value === "object" && value !== null ? Reflect.get(value, "name") : undefined;
      return identity && typeof name === "string" && isAlive(identity) ? [{ name, ...identity }] : [];
    });
  }

  #write(): void {
    const entries = [...this.#entries].map(([name, identity]) => ({ name, ...identity }));
    writePrivate(this.#path, `${JSON.stringify(entries)}\n`);
  }
}

const POLL_MS = 50;

/** Asks a process to end, and kills it when it has not after `graceMs`. Resolves when it is gone. */
export const endProcess = async (
  clock: Clock,
  identity: ProcessIdentity,
  signal: NodeJS.Signals,
  graceMs: number,
): Promise<void> => {
  signalProcess(identity, signal);
  const deadline = clock.elapsed() + graceMs;
  while (isAlive(identity)) {
    if (clock.elapsed() >= deadline) signalProcess(identity, "SIGKILL");
    await clock.sleep(POLL_MS);
  }
};
