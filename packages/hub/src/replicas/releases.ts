import { type Base, Loop, type Service } from "@rootstock/service";
import { type Database, recentReleases, registeredReleases } from "@rootstock/store";

const LOOK_EVERY_MS = 5_000;
/** In the middle of a rollout the last replica of a release may fail and come back, and the release be taken back. */
const MAY_RETURN_SECONDS = 600;

export interface ReleasesOptions {
  readonly database: Database;
  readonly lookEveryMs?: number;
}

/**
 * Which releases the live replicas are. During a rollout the former release cannot read what only this one writes; until
 * its last replica has gone, this one goes on writing what both can read (design 9: expand, then contract).
 */
export class Releases implements Service {
  readonly #base: Base;
  readonly #options: ReleasesOptions;
  readonly #loop: Loop;
  #registered: readonly string[] | undefined;
  #recent: readonly string[] | undefined;

  constructor(base: Base, options: ReleasesOptions) {
    this.#base = base;
    this.#options = options;
    this.#loop = new Loop(base.log, "releases", (signal) => this.#run(signal));
  }

  /** Whether a replica of a release before `version` (numbers with dots) may be alive; true until that is known. */
  olderThan(version: string): boolean {
    return this.#registered?.some((other) => comesBefore(other, version)) ?? true;
  }

  /** The same, also of replicas that were alive ten minutes ago: for what cannot be taken back. */
  recentlyOlderThan(version: string): boolean {
    return this.#recent?.some((other) => comesBefore(other, version)) ?? true;
  }

  /** Throws when the database cannot be asked. */
  async start(): Promise<void> {
    await this.#look();
    await this.#loop.start();
  }

  stop(): Promise<void> {
    return this.#loop.stop();
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#base;
    while (!signal.aborted) {
      await clock.sleep(this.#options.lookEveryMs ?? LOOK_EVERY_MS, signal);
      if (signal.aborted) return;
      await this.#look().catch((err: unknown) => log.debug({ err }, "releases of the other replicas not read"));
    }
  }

  async #look(): Promise<void> {
    const { db } = this.#options.database;
    this.#registered = await registeredReleases(db);
    this.#recent = await recentReleases(db, MAY_RETURN_SECONDS);
  }
}

/** Whether release `a` came before `b`; what is no version came before every one. */
export const comesBefore = (a: string, b: string): boolean => {
  const [left, right] = [numbersOf(a), numbersOf(b)];
  const differs = right.findIndex((n, i) => n !== (left[i] ?? -1));
  return differs >= 0 && (left[differs] ?? -1) < (right[differs] ?? 0);
};

const numbersOf = (version: string): number[] => {
  const [numbers = ""] = /^\d+(\.\d+)*/.exec(version) ?? [];
  return numbers === "" ? [] : numbers.split(".").map(Number);
};
