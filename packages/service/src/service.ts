import type { Clock } from "./clock.ts";
import type { Log } from "./log.ts";
import type { Random } from "./random.ts";

/** What every long-lived part is built from. */
export interface Base {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/**
 * A long-lived part. The constructor only wires; `start` does the first IO and fails fast; `stop` resolves when
 * nothing of the part runs any more. Both may be called twice, and `stop` without `start`.
 */
export interface Service {
  start(): Promise<void>;
  stop(): Promise<void>;
}

/** Starts the stages in order, the parts of one stage together. When one fails, what had started is stopped in reverse. */
export const startStages = async (stages: readonly (readonly Service[])[]): Promise<void> => {
  for (const [index, stage] of stages.entries()) {
    const results = await Promise.allSettled(stage.map((service) => service.start()));
    const failed = results.find((r) => r.status === "rejected");
    if (!failed) continue;
    await stopStages(stages.slice(0, index + 1)).catch(() => {});
    throw failed.reason;
  }
};

/** Stops the stages in reverse order. Every part is asked to stop, whatever another one throws. */
export const stopStages = async (stages: readonly (readonly Service[])[]): Promise<void> => {
  const errors: unknown[] = [];
  for (const stage of [...stages].reverse()) {
    const results = await Promise.allSettled(stage.map((service) => service.stop()));
    for (const r of results) if (r.status === "rejected") errors.push(r.reason);
  }
  if (errors.length > 0) throw new AggregateError(errors, "some parts did not stop cleanly");
};
