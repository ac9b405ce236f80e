import { readFileSync } from "node:fs";

/**
 * Loaded before a replica's own code: its wall clock is off by the milliseconds in the file CHAOS_CLOCK_FILE, which is
 * read now and again at each SIGUSR2, so that the clock jumps while the replica runs. Time that has passed is measured
 * by another clock, which no operator sets, and is left alone.
 */
const file = process.env.CHAOS_CLOCK_FILE ?? "";
const TrueDate = globalThis.Date;
let offMs = 0;

const set = (): void => {
  try {
    offMs = Number(readFileSync(file, "utf8"));
  } catch {
    offMs = 0;
  }
};

const now = (): number => TrueDate.now() + offMs;

set();
process.on("SIGUSR2", set);
globalThis.Date = new Proxy(TrueDate, {
  construct: (target, args, newTarget) => Reflect.construct(target, args.length > 0 ? args : [now()], newTarget),
  apply: () => new TrueDate(now()).toString(),
  get: (target, name, receiver) => (name === "now" ? now : Reflect.get(target, name, receiver)),
});
