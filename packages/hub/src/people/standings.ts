import type { Uuid } from "@rootstock/protocol";
import type { Clock } from "@rootstock/service";
import { type Db, findUserStanding, isSignInLive, type UserStanding } from "@rootstock/store";
import { Fresh } from "./fresh.ts";

/**
 * How long what was read of a user is believed, in milliseconds. With every signal lost, who was suspended is out after
 * this time; with them, after a few milliseconds.
 */
const FRESH_MS = 1_000;

/** How users and their sign-ins stand now. Every use of a credential asks. */
export class UserStandings {
  readonly #users: Fresh<Uuid, UserStanding | undefined>;
  readonly #signIns: Fresh<Uuid, boolean>;

  constructor(clock: Clock, db: Db) {
    this.#users = new Fresh(clock, FRESH_MS, (id) => findUserStanding(db, id));
    this.#signIns = new Fresh(clock, FRESH_MS, (id) => isSignInLive(db, id));
  }

  /** Undefined when there is no such user. At most {@link FRESH_MS} old. */
  find(id: Uuid): Promise<UserStanding | undefined> {
    return this.#users.get(id);
  }

  /** Whether the sign-in has not been ended. At most {@link FRESH_MS} old. */
  isLive(signInId: Uuid): Promise<boolean> {
    return this.#signIns.get(signInId);
  }

  /** To be called when the user has changed. */
  forget(id: Uuid): void {
    this.#users.forget(id);
  }

  /** To be called when anything may have changed. */
  forgetAll(): void {
    this.#users.forgetAll();
    this.#signIns.forgetAll();
  }

  /** To be called when the sign-in was ended. */
  forgetSignIn(id: Uuid): void {
    this.#signIns.forget(id);
  }
}
