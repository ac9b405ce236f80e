import type { Clock } from "@rootstock/service";

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
