import { HubError } from "@rootstock/protocol";
import type { Clock } from "@rootstock/service";

/** Clients give up at 30 s (spec/01 rule 10). */
const ANSWER_WITHIN_MS = 27_000;
const LOOK_EVERY_MS = 500;
/** Shorter than what counts as silence elsewhere: whoever has waited for so long cannot wait for certainty. */
const SILENT_FOR_MS = 2_000;

/**
 * Runs the work of a call. When the call's time is over and the database does not answer, it ends with 503 and the detail
 * `outcome: "unknown"`; the work goes on by itself. Calls may take longer for any other reason.
 * @param silentForMs for how long the database has been asked without any answer
 * @param late given what the work comes to when nobody waits for it any more: a stream would be held open for ever
 */
export const inTime = <T>(
  clock: Clock,
  silentForMs: () => number,
  work: () => Promise<T>,
  late: (value: T) => void = () => {},
): Promise<T> =>
  new Promise((resolve, reject) => {
    let over = false;
    const look = (): void => {
      if (silentForMs() >= SILENT_FOR_MS) {
        over = true;
        reject(
          new HubError("unavailable", "the database does not answer; what became of this call is not known", {
            details: { outcome: "unknown" },
            retryAfter: 5,
          }),
        );
      } else timer = clock.after(LOOK_EVERY_MS, look);
    };
    let timer = clock.after(ANSWER_WITHIN_MS, look);
    work().then(
      (value) => {
        timer.cancel();
        if (over) late(value);
        else resolve(value);
      },
      (err: unknown) => {
        timer.cancel();
        reject(err);
      },
    );
  });
