import { systemClock } from "@rootstock/service";

const EVERY_MS = 10;

/**
 * Repeats `check` until it neither throws nor gives false, and returns what it gave. For facts that nobody announces;
 * fails with the last error when they do not come true within `timeoutMs` (30 s by default).
 */
export const eventually = async <T>(check: () => T | Promise<T>, timeoutMs = 30_000): Promise<Exclude<T, false>> => {
  const deadline = systemClock.elapsed() + timeoutMs;
  for (;;) {
    try {
      const value = await check();
      if (value !== false) return value as Exclude<T, false>;
      if (systemClock.elapsed() > deadline) throw new Error(`not true within ${timeoutMs} ms`);
    } catch (err) {
      if (systemClock.elapsed() > deadline) throw err;
    }
    await systemClock.sleep(EVERY_MS);
  }
};
