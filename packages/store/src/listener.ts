import type { Uuid } from "@rootstock/protocol";
import { Backoff, type Base, Hook, Lifecycle, Loop, Probe, type Service, type Timer } from "@rootstock/service";
import pgListen, { type Subscriber } from "pg-listen";
import type { Database } from "./database.ts";
import { notify } from "./queries/signals.ts";
import {
  COMMANDS_CHANNEL,
  type Commands,
  decodeCommands,
  EVENTS_CHANNEL,
  encodeProbe,
  LOOK_AT_EVERYTHING,
  UNHURRIED,
} from "./signals.ts";

export interface ListenerOptions {
  /** Must not lead through a transaction-pooling proxy: there LISTEN succeeds and then delivers nothing. */
  readonly directUrl: string;
  /** Sends the probes, by the way that the other replicas' signals take. */
  readonly database: Database;
  readonly applicationName: string;
  /** Milliseconds between probes while they return; 10,000 by default. */
  readonly probeEveryMs?: number;
  /** Milliseconds after which a probe counts as lost; 2,000 by default. */
  readonly probeTimeoutMs?: number;
}

export interface ListenerState {
  /** The connection stands and its last probe returned. */
  readonly healthy: boolean;
  readonly connected: boolean;
  /** How long the last probe that returned took, in milliseconds. */
  readonly roundTripMs?: number;
}

const CONNECT_TIMEOUT_MS = 5_000;
const CLOSE_TIMEOUT_MS = 1_000;
/** Stays below five seconds, the grace within which the reaper spares replicas after a database restart. */
const BACKOFF = { firstMs: 100, maxMs: 4_000 };
const DEGRADED_PROBE_EVERY_MS = 1_000;
const LOST_PROBES_BEFORE_RECONNECT = 2;
const POLL_MS = 1_000;
const DEGRADED_POLL_MS = 250;

/**
 * The one LISTEN connection of a replica (design section 6). pg-listen listens, for the life of one connection; this
 * part adds what it does not give: reconnecting for ever, a "look at everything" after each connect, and a probe that
 * this replica sends to itself: until one has returned, signals count as degraded and polls run faster.
 */
export class Listener implements Service {
  /** Emits at each change of {@link state}. */
  readonly changes = new Probe<ListenerState>();
  readonly #base: Base;
  readonly #options: ListenerOptions;
  readonly #commands: Hook<Commands>;
  readonly #changed: Hook<{ readonly hurry: boolean }>;
  readonly #connects: Hook;
  readonly #loop: Loop;
  readonly #lifecycle: Lifecycle;
  readonly #backoff: Backoff;
  #first: Connection | undefined;
  #state: ListenerState = { healthy: false, connected: false };

  constructor(base: Base, options: ListenerOptions) {
    this.#base = base;
    this.#options = options;
    this.#commands = new Hook("commands", base.log);
    this.#changed = new Hook("changes", base.log);
    this.#connects = new Hook("connects", base.log);
    this.#backoff = new Backoff(BACKOFF, base.random);
    this.#loop = new Loop(base.log, "listener", (signal) => this.#run(signal));
    this.#lifecycle = new Lifecycle(
      () => this.#begin(),
      () => this.#end(),
    );
  }

  onCommands(fn: (commands: Commands) => void): () => void {
    return this.#commands.on(fn);
  }

  /** There may be new rows in the change log; without hurry, whoever committed them is still at work. */
  onChanges(fn: (told: { readonly hurry: boolean }) => void): () => void {
    return this.#changed.on(fn);
  }

  /** Both channels are listened to, for the first time or again: the database may be another one than before. */
  onConnected(fn: () => void): () => void {
    return this.#connects.on(fn);
  }

  state(): ListenerState {
    return this.#state;
  }

  /** How often, in milliseconds, whoever waits for signals has to look without one. */
  fallbackPollMs(): number {
    return this.#state.healthy ? POLL_MS : DEGRADED_POLL_MS;
  }

  /** Throws when the database cannot be reached. Signals count as degraded until the first probe has returned. */
  start(): Promise<void> {
    return this.#lifecycle.start();
  }

  stop(): Promise<void> {
    return this.#lifecycle.stop();
  }

  async #begin(): Promise<void> {
    this.#first = await this.#connect();
    await this.#loop.start();
  }

  async #end(): Promise<void> {
    await this.#loop.stop();
    this.#setState({ healthy: false, connected: false });
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const connection = this.#first ?? (await this.#connectOrWait(signal));
      this.#first = undefined;
      if (!connection) continue;
      this.#setState({ healthy: false, connected: true });
      this.#connects.emit();
      // Whatever was signalled while nobody listened.
      this.#commands.emit(LOOK_AT_EVERYTHING);
      this.#changed.emit({ hurry: true });
      await this.#attend(connection, signal);
      await connection.close();
      this.#setState({ healthy: false, connected: false });
    }
  }

  async #connectOrWait(signal: AbortSignal): Promise<Connection | undefined> {
    try {
      return await this.#connect();
    } catch (err) {
      this.#base.log.warn({ err }, "listen connection refused");
      await this.#base.clock.sleep(this.#backoff.next(), signal);
      return undefined;
    }
  }

  async #connect(): Promise<Connection> {
    const connection = new Connection(this.#base, this.#options, (channel, payload) => this.#hear(channel, payload));
    try {
      await connection.open();
      return connection;
    } catch (err) {
      await connection.close();
      throw err;
    }
  }

  /** Probes the connection until it is lost, deaf, or not wanted any more. */
  async #attend(connection: Connection, signal: AbortSignal): Promise<void> {
    const ended = AbortSignal.any([signal, connection.lost]);
    let lostProbes = 0;
    while (!ended.aborted && lostProbes < LOST_PROBES_BEFORE_RECONNECT) {
      const roundTripMs = await this.#probe(connection, ended);
      if (ended.aborted) break;
      if (roundTripMs === "lost") lostProbes += 1;
      if (typeof roundTripMs === "number") {
        lostProbes = 0;
        this.#backoff.reset();
        this.#setState({ healthy: true, connected: true, roundTripMs });
      } else this.#setState({ healthy: false, connected: true });
      const every = this.#state.healthy ? (this.#options.probeEveryMs ?? 10_000) : DEGRADED_PROBE_EVERY_MS;
      await this.#base.clock.sleep(every, ended);
    }
    if (signal.aborted) return;
    this.#base.log.warn({ err: connection.error, deaf: !connection.lost.aborted }, "listen connection lost");
    // A connection that is accepted and dropped, or deaf, at once must not be redialled without a pause.
    if (!this.#state.healthy) await this.#base.clock.sleep(this.#backoff.next(), signal);
  }

  /** The round trip of one probe in milliseconds; `unsent` when the sending failed, which proves nothing. */
  async #probe(connection: Connection, ended: AbortSignal): Promise<number | "lost" | "unsent"> {
    const id = this.#base.random.uuid();
    const started = this.#base.clock.elapsed();
    const heard = connection.expect(id, this.#options.probeTimeoutMs ?? 2_000, ended);
    try {
      await notify(this.#options.database.db, [{ channel: COMMANDS_CHANNEL, payload: encodeProbe(id) }]);
    } catch (err) {
      connection.forget(id);
      this.#base.log.debug({ err }, "probe of signals not sent");
      return "unsent";
    }
    return (await heard) ? this.#base.clock.elapsed() - started : "lost";
  }

  #hear(channel: string, payload: string): readonly Uuid[] {
    if (channel === EVENTS_CHANNEL) {
      this.#changed.emit({ hurry: payload !== UNHURRIED });
      return [];
    }
    const { probes, ...commands } = decodeCommands(payload);
    const { everything, wake, done, delivered } = commands;
    if (everything || wake.size > 0 || done.length > 0 || delivered.length > 0) this.#commands.emit(commands);
    return probes;
  }

  #setState(state: ListenerState): void {
    const before = this.#state;
    this.#state = state;
    if (before.healthy !== state.healthy || before.connected !== state.connected) this.changes.emit(state);
  }
}

/** One listen connection, from dialling to its end. */
class Connection {
  /** Aborts when the connection has broken. */
  readonly lost: AbortSignal;
  error: Error | undefined;
  readonly #base: Base;
  readonly #subscriber: Subscriber;
  readonly #awaited = new Map<Uuid, (heard: boolean) => void>();

  constructor(base: Base, options: ListenerOptions, hear: (channel: string, payload: string) => readonly Uuid[]) {
    this.#base = base;
    const broken = new AbortController();
    this.lost = broken.signal;
    this.#subscriber = pgListen.default(
      {
        connectionString: options.directUrl,
        application_name: options.applicationName,
        connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
        query_timeout: CONNECT_TIMEOUT_MS,
        keepAliveInitialDelayMillis: 5_000,
      },
      // No reconnects of its own: they could be neither stopped nor waited for. No periodic query: the probe says more.
      { retryLimit: 1, paranoidChecking: false, parse: (text) => text },
    );
    this.#subscriber.events.on("error", (err) => {
      this.error = err;
      broken.abort();
    });
    this.#subscriber.events.on("notification", ({ channel, payload }) => {
      const probes = hear(channel, typeof payload === "string" ? payload : "");
      for (const id of probes) this.#awaited.get(id)?.(true);
    });
  }

  async open(): Promise<void> {
    await this.#subscriber.connect();
    await this.#subscriber.listenTo(COMMANDS_CHANNEL);
    await this.#subscriber.listenTo(EVENTS_CHANNEL);
  }

  /** Whether the probe `id` comes within `ms`. To be called before it is sent. */
  expect(id: Uuid, ms: number, ended: AbortSignal): Promise<boolean> {
    return new Promise((resolve) => {
      let timer: Timer | undefined;
      const settle = (heard: boolean) => {
        timer?.cancel();
        ended.removeEventListener("abort", give);
        this.#awaited.delete(id);
        resolve(heard);
      };
      const give = () => settle(false);
      timer = this.#base.clock.after(ms, give);
      ended.addEventListener("abort", give);
      this.#awaited.set(id, settle);
    });
  }

  forget(id: Uuid): void {
    this.#awaited.get(id)?.(false);
  }

  /** Never rejects; a server that does not answer is not waited for. */
  async close(): Promise<void> {
    const closed = new AbortController();
    const closing = this.#subscriber
      .close()
      .catch(() => {})
      .finally(() => closed.abort());
    await Promise.race([closing, this.#base.clock.sleep(CLOSE_TIMEOUT_MS, closed.signal)]);
  }
}
