import type { Samples } from "./samples.ts";

/** What a sender's call came to. */
export interface Sent {
  readonly status: number;
}

/** One sender: each call sends one thing and resolves with its answer. */
export type Lane = () => Promise<Sent>;

/** What senders did in the time that counts. */
export interface Load {
  readonly seconds: number;
  readonly accepted: number;
  /** Accepted with 202: not acknowledged yet. */
  readonly acceptedLate: number;
  readonly refused: number;
}

class Tally {
  accepted = 0;
  acceptedLate = 0;
  refused = 0;

  count(status: number): void {
    if (status === 200) this.accepted += 1;
    else if (status === 202) this.acceptedLate += 1;
    else this.refused += 1;
  }
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Every sender sends one call after the other. What is answered between warm-up and end counts. */
export const closedLoop = async (
  lanes: readonly Lane[],
  p: {
    readonly warmUpMs: number;
    readonly measureMs: number;
    readonly latency?: Samples;
    /** Called when the time that counts begins, and when it is over. */
    readonly onMeasure?: () => Promise<void>;
    /** Called every second of the time that counts. */
    readonly onSecond?: () => Promise<void>;
  },
): Promise<Load> => {
  const tally = new Tally();
  let measuring = false;
  let over = false;
  const senders = lanes.map(async (lane) => {
    while (!over) {
      const started = performance.now();
      const { status } = await lane();
      if (!measuring || over) continue;
      p.latency?.add(performance.now() - started);
      tally.count(status);
    }
  });
  await pause(p.warmUpMs);
  await p.onMeasure?.();
  measuring = true;
  const started = performance.now();
  for (let left = p.measureMs; left > 0; left -= 1_000) {
    await pause(Math.max(0, started + p.measureMs - left + Math.min(left, 1_000) - performance.now()));
    await p.onSecond?.();
  }
  over = true;
  const seconds = (performance.now() - started) / 1000;
  await p.onMeasure?.();
  await Promise.all(senders);
  return { seconds, ...tally };
};

/**
 * Sends at a steady rate, whether or not the answers keep up: a call that must wait for a free sender has waited since
 * its time had come, and its latency counts from there. What is not sent when the time is over is left.
 */
export const openLoop = async (
  lanes: readonly Lane[],
  p: {
    readonly perSecond: number;
    readonly durationMs: number;
    /** Each answer, in the order in which they come. */
    readonly onAnswer: (ms: number, atMs: number) => void;
  },
): Promise<Load> => {
  const tally = new Tally();
  const started = performance.now();
  let next = 0;
  const senders = lanes.map(async (lane) => {
    for (;;) {
      const due = (next * 1000) / p.perSecond;
      if (due >= p.durationMs || performance.now() - started > p.durationMs) return;
      next += 1;
      const early = started + due - performance.now();
      // A timer is late by up to a millisecond: the time that counts is that at which the call was due or could begin.
      if (early > 0) await pause(early);
      const from = early > 0 ? performance.now() : started + due;
      const { status } = await lane();
      const now = performance.now();
      tally.count(status);
      p.onAnswer(now - from, now - started);
    }
  });
  await Promise.all(senders);
  return { seconds: (performance.now() - started) / 1000, ...tally };
};
