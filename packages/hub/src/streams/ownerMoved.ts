import type { Uuid } from "@rootstock/protocol";
import type { Clock } from "@rootstock/service";
import { type Db, type Owner, ownerOf } from "@rootstock/store";

/** Whether a replica still holds a runtime broker's socket, as far as the database knows. */
export type IsOwner = (owner: Owner, runtimeBrokerId: Uuid) => Promise<boolean>;

export const isOwnerIn =
  (db: Db): IsOwner =>
  async (owner, runtimeBrokerId) =>
    (await ownerOf(db, runtimeBrokerId))?.instanceId === owner.instanceId;

/** How often somebody who waits for an answer looks whether its replica still holds the runtime broker's socket. */
const LOOK_MS = 1_500;

/**
 * Resolves when a replica that was asked something has not been the owner on two looks in a row: one that lives says within
 * a look that its socket is gone. Also resolves when the signal aborts. A look that fails says nothing.
 */
export const ownerMoved = async (
  clock: Clock,
  isOwner: () => Promise<boolean>,
  signal: AbortSignal,
): Promise<undefined> => {
  for (let lost = 0; lost < 2; ) {
    await clock.sleep(LOOK_MS, signal);
    if (signal.aborted) return;
    lost = (await isOwner().catch(() => true)) ? 0 : lost + 1;
  }
};

/**
 * Looks whether an owner that says nothing still is one: the database knows of one that died or hangs before its silence
 * is long enough to count. A look that fails says nothing.
 */
export class Doubt {
  readonly #isOwner: () => Promise<boolean>;
  readonly #lost: () => void;
  #looking = false;

  constructor(isOwner: () => Promise<boolean>, lost: () => void) {
    this.#isOwner = isOwner;
    this.#lost = lost;
  }

  /** One look at a time. */
  look(): void {
    if (this.#looking) return;
    this.#looking = true;
    this.#isOwner()
      .catch(() => true)
      .then((isOwner) => {
        this.#looking = false;
        if (!isOwner) this.#lost();
      });
  }
}
