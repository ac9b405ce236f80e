import { setImmediate as endOfTurn } from "node:timers/promises";
import type { Uuid } from "@rootstock/protocol";
import { type Breather, type Clock, type Log, type Service, SingleFlight, type Timer } from "@rootstock/service";
import type { Database } from "./database.ts";
import { type Notification, notify } from "./queries/signals.ts";
import { COMMANDS_CHANNEL, EVENTS_CHANNEL, encodeCommands, UNHURRIED } from "./signals.ts";
import { type ReadonlyWakes, Wakes, wakesOf } from "./wakes.ts";

export interface SignallerOptions {
  readonly database: Database;
  readonly clock: Clock;
  readonly log: Log;
  /** Between one NOTIFY and what was signalled meanwhile. */
  readonly breather?: Breather;
}

/**
 * How long a change without hurry waits for a signal, or another change, to go with, in milliseconds; and how long it waits
 * at most where they come one after the other. Alone it would cost as much as the commit that it tells of, beside the work
 * that this commit is part of, and would be read by every replica.
 */
const LINGER_MS = 10;
const LONGEST_LINGER_MS = 40;

/**
 * Sends a replica's signals: what is signalled in one turn of the event loop goes together, one NOTIFY is in flight at a
 * time, and what comes meanwhile is merged and goes with the next one. To be told after the commit of what the signal is about. Nothing here throws or is repeated: a signal that
 * is lost costs latency only, because whoever it was for polls as well.
 */
export class Signaller implements Service {
  readonly #options: SignallerOptions;
  readonly #sending: SingleFlight;
  #wake = new Wakes();
  #done = new Set<Uuid>();
  #delivered = new Set<Uuid>();
  #changed: "at once" | "unhurried" | undefined;
  #lingering: Timer | undefined;
  /** When what lingers goes, by the clock's `elapsed`: by now, and at the latest. */
  #lingersUntil = 0;
  #lingersAtMostUntil = 0;
  #stopped = false;
  #sent = 0;
  #lost = 0;

  constructor(options: SignallerOptions) {
    this.#options = options;
    this.#sending = new SingleFlight(
      () => this.#send(),
      (err) => {
        this.#lost += 1;
        options.log.debug({ err }, "signal lost");
      },
      options.breather,
    );
  }

  /** Runtime brokers for which anything may wait. */
  wake(runtimeBrokerIds: Iterable<Uuid>): void {
    this.wakeFor(wakesOf(runtimeBrokerIds));
  }

  /** Runtime brokers, each with what may wait for it. */
  wakeFor(wakes: ReadonlyWakes): void {
    this.#wake.merge(wakes);
    if (this.#wake.size > 0) this.#poke();
  }

  /** Dispatches, or messages, that somebody may wait for and that have ended. */
  done(ids: Iterable<Uuid>): void {
    for (const id of ids) this.#done.add(id);
    if (this.#done.size > 0) this.#poke();
  }

  /** Messages that somebody may wait for and that their runtime brokers have taken. */
  delivered(ids: Iterable<Uuid>): void {
    for (const id of ids) this.#delivered.add(id);
    if (this.#delivered.size > 0) this.#poke();
  }

  /** Something was committed that the change log tells of. */
  changed(): void {
    this.#changed = "at once";
    this.#poke();
  }

  /**
   * As {@link changed}, of a commit that somebody is at work on: told and read at once, it would keep that from going on. It
   * goes with the next signal, or by itself a moment later, and is then read without another delay.
   */
  changedUnhurried(): void {
    this.#changed ??= "unhurried";
    if (this.#stopped) return;
    const now = this.#options.clock.elapsed();
    if (!this.#lingering) {
      this.#lingersAtMostUntil = now + LONGEST_LINGER_MS;
      this.#lingering = this.#options.clock.after(LINGER_MS, () => this.#lingeredOn());
    }
    this.#lingersUntil = Math.min(now + LINGER_MS, this.#lingersAtMostUntil);
  }

  /** How many NOTIFY statements went out, and how many failed, since the process began. */
  stats(): { readonly sent: number; readonly lost: number } {
    return { sent: this.#sent, lost: this.#lost };
  }

  async start(): Promise<void> {
    this.#stopped = false;
  }

  /** Sends what is left; later signals are dropped. */
  async stop(): Promise<void> {
    if (this.#changed) this.#poke();
    this.#stopped = true;
    this.#lingering?.cancel();
    this.#lingering = undefined;
    await this.#sending.idle();
  }

  #lingeredOn(): void {
    this.#lingering = undefined;
    if (!this.#changed) return;
    const left = this.#lingersUntil - this.#options.clock.elapsed();
    if (left >= 1) this.#lingering = this.#options.clock.after(left, () => this.#lingeredOn());
    else this.changed();
  }

  #poke(): void {
    if (!this.#stopped) void this.#sending.poke();
  }

  async #send(): Promise<void> {
    // An end and the change that it is are told one after the other: sent apart, the second waits for the first's way.
    await endOfTurn();
    const notifications: Notification[] = encodeCommands({
      wake: this.#wake,
      done: this.#done,
      delivered: this.#delivered,
    }).map((payload) => ({ channel: COMMANDS_CHANNEL, payload }));
    if (this.#changed)
      notifications.push({ channel: EVENTS_CHANNEL, payload: this.#changed === "unhurried" ? UNHURRIED : "" });
    this.#wake = new Wakes();
    this.#done = new Set();
    this.#delivered = new Set();
    this.#changed = undefined;
    if (notifications.length === 0) return;
    await notify(this.#options.database.db, notifications);
    this.#sent += 1;
  }
}
