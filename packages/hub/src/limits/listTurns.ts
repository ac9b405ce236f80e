import { HubError } from "@rootstock/protocol";
import type { Clock } from "@rootstock/service";
import { countedAs } from "../auth/index.ts";
import type { WhoAsks } from "./exactCounts.ts";
import { Turns } from "./turns.ts";

/** A list has two statements under way at times: these leave connections of a usual pool to everything else. */
const MOST_AT_ONCE = 4;
/** Clients give up at 30 s (spec/01 rule 10). */
const WAIT_MS = 20_000;
/** So many of one principal wait at once: each holds its request. */
const MOST_WAITING = 200;
const RETRY_AFTER_SECONDS = 5;

/**
 * Reading long lists at a replica: one at a time for each principal, and few together. A page costs milliseconds; of a
 * caller who asks for thousands at once the others would wait for all.
 */
export class ListTurns {
  readonly #turns: Turns;
  readonly #waitMs: number;
  /** How many lists each principal has asked for and not got. */
  readonly #asked = new Map<string, number>();

  constructor({ clock, waitMs }: { readonly clock: Clock; readonly waitMs?: number }) {
    this.#turns = new Turns(clock, MOST_AT_ONCE);
    this.#waitMs = waitMs ?? WAIT_MS;
  }

  /**
   * What `read` gives. Throws 503 `unavailable` when it has not been the turn of who asks in time, and at once when too
   * many of theirs wait.
   */
  async of<T>(asker: WhoAsks, read: () => Promise<T>): Promise<T> {
    const whom = countedAs(asker.principal);
    const before = this.#asked.get(whom) ?? 0;
    if (before > MOST_WAITING) throw tooMany();
    this.#asked.set(whom, before + 1);
    try {
      return await this.#inTurn(whom, asker, read);
    } finally {
      const left = (this.#asked.get(whom) ?? 1) - 1;
      if (left > 0) this.#asked.set(whom, left);
      else this.#asked.delete(whom);
    }
  }

  async #inTurn<T>(whom: string, asker: WhoAsks, read: () => Promise<T>): Promise<T> {
    if (!(await this.#turns.take(whom, { waitMs: this.#waitMs, gone: asker.signal }))) throw tooMany();
    try {
      return await read();
    } finally {
      this.#turns.leave(whom);
    }
  }
}

const tooMany = (): HubError =>
  new HubError("unavailable", "too many lists are being read; try again shortly", { retryAfter: RETRY_AFTER_SECONDS });
