import { HubError } from "@rootstock/protocol";
import { Backoff, type Base } from "@rootstock/service";
import { isDatabaseUnavailable, isInDoubt } from "@rootstock/store";

/** So long a caller is kept waiting for certainty, in milliseconds. */
const CERTAIN_WITHIN_MS = 5_000;

/**
 * Runs a write again when the connection broke in the middle of it, until it is certain what became of it: an answer
 * "failed" to what was committed all the same would be a lie, because it runs later. `write` must change nothing when it
 * is repeated. With `begun` it is already certain that there is something to be told of. Throws 503 `unavailable` with
 * the detail `outcome: "unknown"` when the database stays away.
 */
export const untilCertain = async <T>(
  base: Base,
  write: () => Promise<T>,
  options: { readonly begun?: boolean } = {},
): Promise<T> => {
  const backoff = new Backoff({ firstMs: 25, maxMs: 1_000 }, base.random);
  const until = base.clock.elapsed() + CERTAIN_WITHIN_MS;
  let doubted = options.begun === true;
  for (;;) {
    try {
      return await write();
    } catch (err) {
      doubted ||= isInDoubt(err);
      if (!doubted || !isDatabaseUnavailable(err)) throw err;
      if (base.clock.elapsed() >= until) throw unknownOutcome(err);
      await base.clock.sleep(backoff.next());
    }
  }
};

/**
 * Runs a write once that could change something when it is repeated. Throws 503 `unavailable` with the detail
 * `outcome: "unknown"` when the connection broke in the middle of it.
 */
export const orUnknown = async <T>(write: () => Promise<T>): Promise<T> => {
  try {
    return await write();
  } catch (err) {
    throw isInDoubt(err) ? unknownOutcome(err) : err;
  }
};

const unknownOutcome = (cause: unknown): HubError =>
  new HubError(
    "unavailable",
    "the database went away in the middle of this call; what became of it is not known. With an Idempotency-Key a call can be repeated until it is",
    { details: { outcome: "unknown" }, retryAfter: 5, cause },
  );
