import type { Uuid } from "@rootstock/protocol";
import { type Base, Hook, Loop, type Service } from "@rootstock/service";
import type { Listener, ReadonlyWakes, Signaller } from "@rootstock/store";

export interface CommandBusOptions {
  readonly signaller: Signaller;
  readonly listener: Listener;
}

/**
 * Tells every replica, this one included, which runtime brokers have work and which dispatches have ended. What it
 * tells is a hint (design section 6): it may come late, twice or not at all, and `onLookAtEverything` follows at the
 * latest with the next fallback poll (1 s; 250 ms while signals are degraded).
 */
export class CommandBus implements Service {
  readonly #options: CommandBusOptions;
  readonly #base: Base;
  readonly #wakes: Hook<ReadonlyWakes>;
  readonly #dones: Hook<ReadonlySet<Uuid>>;
  readonly #deliveries: Hook<readonly Uuid[]>;
  readonly #everything: Hook;
  readonly #polling: Loop;
  #off: (() => void) | undefined;

  constructor(base: Base, options: CommandBusOptions) {
    this.#base = base;
    this.#options = options;
    this.#wakes = new Hook("wake", base.log);
    this.#dones = new Hook("done", base.log);
    this.#deliveries = new Hook("delivered", base.log);
    this.#everything = new Hook("look at everything", base.log);
    this.#polling = new Loop(base.log, "fallback poll", (signal) => this.#poll(signal));
  }

  /** After a commit that leaves anything to do for these runtime brokers. */
  wake(runtimeBrokerIds: Iterable<Uuid>): void {
    this.#options.signaller.wake(runtimeBrokerIds);
  }

  /** As {@link wake}, where it is known what waits: an intent, or messages for these agents. */
  wakeFor(wakes: ReadonlyWakes): void {
    this.#options.signaller.wakeFor(wakes);
  }

  /** After the commit of the end of these dispatches, or of messages that were not delivered. */
  done(ids: Iterable<Uuid>): void {
    this.#options.signaller.done(ids);
  }

  /** These messages have been taken by their runtime brokers; their rows may say so a moment later. */
  delivered(ids: Iterable<Uuid>): void {
    this.#options.signaller.delivered(ids);
  }

  /** Runtime brokers, or agents of theirs, for which some replica committed something. */
  onWake(fn: (wakes: ReadonlyWakes) => void): () => void {
    return this.#wakes.on(fn);
  }

  /** Dispatches or messages whose end some replica committed. */
  onDone(fn: (ids: ReadonlySet<Uuid>) => void): () => void {
    return this.#dones.on(fn);
  }

  /** Messages that the runtime brokers of some replica have taken. */
  onDelivered(fn: (ids: readonly Uuid[]) => void): () => void {
    return this.#deliveries.on(fn);
  }

  /** After each connect of the listener and on each fallback poll: whatever a lost signal may have been about. */
  onLookAtEverything(fn: () => void): () => void {
    return this.#everything.on(fn);
  }

  async start(): Promise<void> {
    this.#off ??= this.#options.listener.onCommands(({ wake, done, delivered, everything }) => {
      if (wake.size > 0) this.#wakes.emit(wake);
      if (delivered.length > 0) this.#deliveries.emit(delivered);
      if (done.length > 0) this.#dones.emit(new Set(done));
      if (everything) this.#everything.emit();
    });
    await this.#polling.start();
  }

  async stop(): Promise<void> {
    this.#off?.();
    this.#off = undefined;
    await this.#polling.stop();
  }

  async #poll(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#base.clock.sleep(this.#options.listener.fallbackPollMs(), signal);
      if (!signal.aborted) this.#everything.emit();
    }
  }
}
