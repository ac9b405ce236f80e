/** A timer that can be taken back. */
export interface Timer {
  cancel(): void;
}

/**
 * The only door to time. Deadlines, back-off and intervals use it, so that a test can hold time still.
 * Stamps that are stored come from the database's own clock instead: replicas' clocks differ.
 */
export interface Clock {
  /** Milliseconds since the Unix epoch. */
  now(): number;
  /** Milliseconds that only ever grow, for measuring how long something took. */
  elapsed(): number;
  /** Calls `fn` once, after `ms` milliseconds. The timer alone does not keep the process alive. */
  after(ms: number, fn: () => void): Timer;
  /** Resolves after `ms` milliseconds, or at once (without throwing) when `signal` aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** No timer of the machine lasts longer. */
const LONGEST_MS = 2 ** 31 - 1;

/** Calls `fn` once when `clock` says `at` or later, in milliseconds since 1970, however far that is. Now, if it does. */
export const onceAt = (clock: Clock, at: number, fn: () => void): Timer => {
  let timer: Timer | undefined;
  const look = () => {
    const left = at - clock.now();
    timer = undefined;
    if (left <= 0) fn();
    else timer = clock.after(Math.min(Math.ceil(left), LONGEST_MS), look);
  };
  look();
  return { cancel: () => timer?.cancel() };
};

/** The machine's clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  elapsed: () => performance.now(),
  after(ms, fn) {
    const handle = setTimeout(fn, ms);
    handle.unref();
    return { cancel: () => clearTimeout(handle) };
  },
  sleep(ms, signal) {
    if (signal?.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(handle);
        signal?.removeEventListener("abort", done);
        resolve();
      };
      const handle = setTimeout(done, ms);
      signal?.addEventListener("abort", done, { once: true });
    });
  },
};
