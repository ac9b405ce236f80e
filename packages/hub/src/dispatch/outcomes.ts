import type { Uuid } from "@rootstock/protocol";
import { type Clock, type Log, SingleFlight, type Timer } from "@rootstock/service";
import type { MessageOutcome } from "@rootstock/store";
import { breatherOf } from "./load.ts";

/** What was told is written soon. */
const FIRST_PAUSE_MS = 10;

/** How the waits of one kind are answered: the row is the authority, signals only say when to look. */
interface Wait<T> {
  readonly accept: (value: T) => boolean;
  readonly resolve: (value: T | undefined) => void;
}

/**
 * Waits for rows to reach an end. Whoever waits is told by a signal, by this replica itself (`announce`), or by the
 * fallback poll, which reads the rows of all waits in one statement. Give-up is the caller's: a timeout, which any sign
 * of progress may push back, never past the absolute limit.
 */
export class Outcomes<T extends { readonly id: Uuid }> {
  readonly #waits = new Map<Uuid, Set<Wait<T>>>();
  readonly #read: SingleFlight;
  #signalled = new Set<Uuid>();
  readonly #clock: Clock;

  constructor(clock: Clock, log: Log, read: (ids: readonly Uuid[]) => Promise<readonly T[]>) {
    this.#clock = clock;
    this.#read = new SingleFlight(
      async () => {
        const ids = [...this.#signalled];
        this.#signalled = new Set();
        if (ids.length > 0) for (const row of await read(ids)) this.announce(row);
      },
      // The poll looks again: a wait never depends on one read.
      (err) => log.warn({ err }, "reading outcomes failed"),
      breatherOf(clock),
    );
  }

  /** Begins to wait for `id`. Call before committing the row, or its end may be missed until the next poll. */
  open(id: Uuid, accept: (value: T) => boolean): OutcomeWait<T> {
    let settle: (value: T | undefined) => void = () => {};
    const settled = new Promise<T | undefined>((resolve) => {
      settle = resolve;
    });
    const wait: Wait<T> = { accept, resolve: settle };
    const waits = this.#waits.get(id) ?? new Set();
    waits.add(wait);
    this.#waits.set(id, waits);
    const close = () => {
      waits.delete(wait);
      if (waits.size === 0 && this.#waits.get(id) === waits) this.#waits.delete(id);
    };
    return new OutcomeWait(this.#clock, settled, settle, close);
  }

  /** Tells those who wait for this row what it is now. */
  announce(row: T): void {
    for (const wait of this.#waits.get(row.id) ?? []) if (wait.accept(row)) wait.resolve(row);
  }

  /** A signal: these rows may have ended. Those that somebody waits for are read. */
  look(ids: Iterable<Uuid>): void {
    for (const id of ids) if (this.#waits.has(id)) this.#signalled.add(id);
    if (this.#signalled.size > 0) void this.#read.poke();
  }

  /**
   * Reads a row for somebody who has come late to wait for it. Its end may have been told already, and not be written yet,
   * and nobody is told twice: it is read again, after longer and longer, as long as somebody waits.
   */
  lookAgain(id: Uuid, pauseMs = FIRST_PAUSE_MS): void {
    if (!this.#waits.has(id)) return;
    this.look([id]);
    this.#clock.after(pauseMs, () => this.lookAgain(id, pauseMs * 2));
  }

  /** The fallback poll: reads whatever somebody waits for. */
  lookAtEverything(): void {
    this.look(this.#waits.keys());
  }
}

/** Of a message that its runtime broker has taken. */
export const deliveredOutcome = (id: Uuid): MessageOutcome => ({
  id,
  state: "delivered",
  holdReason: null,
  error: null,
});

/** One wait for one row. */
export class OutcomeWait<T> {
  readonly #clock: Clock;
  readonly #settled: Promise<T | undefined>;
  readonly #settle: (value: T | undefined) => void;
  readonly #close: () => void;
  #timer: Timer | undefined;
  #quietMs = 0;
  #endsAt = 0;

  constructor(
    clock: Clock,
    settled: Promise<T | undefined>,
    settle: (value: T | undefined) => void,
    close: () => void,
  ) {
    this.#clock = clock;
    this.#settled = settled;
    this.#settle = settle;
    this.#close = close;
  }

  /** The row once it is accepted, or undefined after `quietMs` without progress, or after `maxMs` in any case. */
  async wait(quietMs: number, maxMs: number = quietMs): Promise<T | undefined> {
    this.#quietMs = quietMs;
    this.#endsAt = this.#clock.elapsed() + maxMs;
    this.progressed();
    try {
      return await this.#settled;
    } finally {
      this.close();
    }
  }

  /** A sign of progress: the quiet time begins anew. */
  progressed(): void {
    if (this.#quietMs === 0) return;
    this.#timer?.cancel();
    const left = Math.max(0, this.#endsAt - this.#clock.elapsed());
    this.#timer = this.#clock.after(Math.min(this.#quietMs, left), () => this.#settle(undefined));
  }

  /** Stops waiting. */
  close(): void {
    this.#timer?.cancel();
    this.#quietMs = 0;
    this.#close();
    this.#settle(undefined);
  }
}
