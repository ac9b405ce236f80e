/** Building blocks of long-lived parts: life cycle, time, randomness, logs. Imports nothing of ours. */
export * from "./backoff.ts";
export * from "./batcher.ts";
export * from "./breather.ts";
export * from "./clock.ts";
export * from "./freePort.ts";
export * from "./hook.ts";
export * from "./lifecycle.ts";
export * from "./log.ts";
export * from "./loop.ts";
export * from "./pacer.ts";
export * from "./pieces.ts";
export * from "./probe.ts";
export * from "./random.ts";
export * from "./semaphore.ts";
export * from "./service.ts";
export * from "./singleFlight.ts";
