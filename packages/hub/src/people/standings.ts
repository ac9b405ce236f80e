import type { Uuid } from "@rootstock/protocol";
import type { Clock } from "@rootstock/service";
import { type Db, findUserStanding, type UserStanding } from "@rootstock/store";

/**
 * How long what was read of a user is believed, in milliseconds. With every signal lost, who was suspended is out after
 * this time; with them, after a few milliseconds.
 */
const FRESH_MS = 1_000;
const MOST_KEPT = 10_000;

interface Kept {
  readonly at: number;
  readonly standing: Promise<UserStanding | undefined>;
}

/** How users stand now: role, status and the version that their tokens must name. Every use of a credential asks. */
export class UserStandings {
  readonly #clock: Clock;
  readonly #db: Db;
  readonly #kept = new Map<Uuid, Kept>();

  constructor(clock: Clock, db: Db) {
    this.#clock = clock;
    this.#db = db;
  }

  /** Undefined when there is no such user. At most {@link FRESH_MS} old. */
  find(id: Uuid): Promise<UserStanding | undefined> {
    const now = this.#clock.elapsed();
    const kept = this.#kept.get(id);
    if (kept && now - kept.at < FRESH_MS) return kept.standing;
    const standing = findUserStanding(this.#db, id);
    // A failure is for whoever asked, and the next one asks anew.
    standing.catch(() => this.forget(id));
    this.#kept.delete(id);
    this.#kept.set(id, { at: now, standing });
    if (this.#kept.size > MOST_KEPT) this.#dropOldest();
    return standing;
  }

  /** To be called when the user has changed. */
  forget(id: Uuid): void {
    this.#kept.delete(id);
  }

  /** To be called when changes may have been missed. */
  forgetAll(): void {
    this.#kept.clear();
  }

  #dropOldest(): void {
    for (const oldest of this.#kept.keys()) {
      this.#kept.delete(oldest);
      return;
    }
  }
}
