const FIRST_MS = 500;
const LAST_MS = 15_000;

/** How long an agent that would not take its message is left alone after so many attempts, in milliseconds. */
export const pauseAfterMs = (attempts: number): number =>
  Math.min(LAST_MS, FIRST_MS * 2 ** Math.min(Math.max(attempts, 1) - 1, 10));
