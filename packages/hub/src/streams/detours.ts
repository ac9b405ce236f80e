import type { Uuid } from "@rootstock/protocol";
import type { Clock } from "@rootstock/service";

/** How long a replica that could not be reached is not tried directly again. */
const KEEP_MS = 60_000;

/** Replicas that answer through the database and not at their internal URL: known for a while, so that not every call tries. */
export class Detours {
  readonly #clock: Clock;
  readonly #until = new Map<Uuid, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  has(instanceId: Uuid): boolean {
    const until = this.#until.get(instanceId);
    if (until === undefined) return false;
    if (until > this.#clock.elapsed()) return true;
    this.#until.delete(instanceId);
    return false;
  }

  mark(instanceId: Uuid): void {
    this.#until.set(instanceId, this.#clock.elapsed() + KEEP_MS);
  }
}
