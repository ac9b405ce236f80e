import type { Uuid } from "@rootstock/protocol";
import { type Base, Loop, Probe, type Service, SingleFlight } from "@rootstock/service";
import type { SocketOwnership } from "@rootstock/store";
import type { WebSocket } from "ws";
import { Connection, type ConnectionIdentity, type ConnectionOwner } from "./connection.ts";
import type { Ownership } from "./ownership.ts";
import type { TunnelShared } from "./tunnel.ts";

/** Service restart: the runtime broker redials at once and lands on another replica. */
const CLOSE_RESTART = 1012;
const CLOSE_NORMAL = 1000;
/** How long a draining socket may wait for what is on its wire. */
const DRAIN_REQUEST_MS = 10_000;
const DRAIN_SLICE_MS = 100;

/** Why no further socket is taken. */
type Shut = "draining" | "suspended" | undefined;

/** The sockets that this replica holds, by runtime broker, and their agreement with the database (design section 4). */
export class Registry implements Service, ConnectionOwner {
  readonly #base: Base;
  readonly #ownership: Ownership;
  readonly #shared: TunnelShared;
  readonly #connections = new Map<Uuid, Connection>();
  readonly #connected = new Probe<Connection>();
  readonly #disconnected = new Probe<Connection>();
  readonly #freed = new Probe<Connection>();
  readonly #comparing: SingleFlight;
  readonly #ticking: Loop;
  readonly #retiring = new AbortController();
  #strays: readonly SocketOwnership[] = [];
  #straysAt: number;
  #shut: Shut;
  /** The exclusive or of the marks of all that is held. */
  #marks = 0n;

  constructor(base: Base, ownership: Ownership, shared: Omit<TunnelShared, "base">) {
    this.#base = base;
    this.#ownership = ownership;
    this.#shared = { ...shared, base };
    this.#straysAt = base.clock.elapsed();
    this.#comparing = new SingleFlight(
      () => this.#compare(),
      (err) => base.log.warn({ err }, "comparing held sockets with the database failed"),
    );
    this.#ticking = new Loop(base.log, "control channel ticker", async (signal) => {
      while (!signal.aborted) {
        await base.clock.sleep(shared.options.tickMs, signal);
        const now = base.clock.elapsed();
        for (const connection of [...this.#connections.values()]) connection.tick(now);
      }
    });
  }

  start(): Promise<void> {
    return this.#ticking.start();
  }

  /** Closes what is left and gives it up. For a stop that costs nobody a call, `drain` first. */
  async stop(): Promise<void> {
    this.#shut = "draining";
    this.#retiring.abort();
    await this.#ticking.stop();
    this.#closeAll("shutting down");
    await this.#comparing.idle();
    await this.#ownership.flush();
  }

  /** The socket of a runtime broker, when this replica holds it and requests may be sent. */
  get(runtimeBrokerId: Uuid): Connection | undefined {
    const connection = this.#connections.get(runtimeBrokerId);
    return connection?.isOpen ? connection : undefined;
  }

  /** The socket of a runtime broker that this replica holds, still in the handshake or not. */
  held(runtimeBrokerId: Uuid): Connection | undefined {
    return this.#connections.get(runtimeBrokerId);
  }

  /** Every socket through which requests may be sent. */
  *all(): Iterable<Connection> {
    for (const connection of this.#connections.values()) if (connection.isOpen) yield connection;
  }

  /** How many sockets are held, those still in the handshake included. */
  get size(): number {
    return this.#connections.size;
  }

  /** Calls `fn` whenever a runtime broker can take requests here. Returns how to stop that. */
  onConnected(fn: (connection: Connection) => void): () => void {
    return this.#connected.on(fn);
  }

  /** Calls `fn` whenever a socket that `onConnected` told of has ended or was replaced. Returns how to stop that. */
  onDisconnected(fn: (connection: Connection) => void): () => void {
    return this.#disconnected.on(fn);
  }

  /** Calls `fn` whenever a socket has room for a request after one has left its wire. Returns how to stop that. */
  onRoom(fn: (connection: Connection) => void): () => void {
    return this.#freed.on(fn);
  }

  /** Whether a new socket is welcome; if not, why. */
  refusal(): string | undefined {
    if (this.#shut) return `this replica is ${this.#shut}`;
    return this.#ownership.mayClaim ? undefined : "this replica has lost its place in the database";
  }

  /** Takes a socket whose claim has been committed. An older one of the same runtime broker is closed. */
  add(ws: WebSocket, identity: ConnectionIdentity): void {
    const older = this.#connections.get(identity.runtimeBrokerId);
    const connection = new Connection(ws, identity, this, this.#shared);
    this.#connections.set(identity.runtimeBrokerId, connection);
    this.#marks ^= connection.mark ^ (older?.mark ?? 0n);
    older?.close(CLOSE_NORMAL, "replaced by a newer connection");
    // The replica may have been suspended or asked to drain while the claim was under way.
    if (this.refusal() !== undefined) connection.close(CLOSE_RESTART, "try another replica");
  }

  /** Gives up a claim that no socket came of. */
  abandon(socket: SocketOwnership): void {
    this.#ownership.release(socket);
  }

  ready(connection: Connection): void {
    this.#tell(this.#connected, connection);
  }

  freed(connection: Connection): void {
    this.#tell(this.#freed, connection);
  }

  ended(connection: Connection, reason: string): void {
    const { runtimeBrokerId, sessionId } = connection;
    this.#base.log.info({ runtimeBrokerId, sessionId, reason }, "runtime broker disconnected");
    if (connection.wasReady) this.#tell(this.#disconnected, connection);
    // Replaced on this replica: the database names the newer session already.
    if (this.#connections.get(runtimeBrokerId) !== connection) return;
    this.#connections.delete(runtimeBrokerId);
    this.#marks ^= connection.mark;
    this.#ownership.release({ runtimeBrokerId, sessionId });
  }

  /**
   * Compares the sockets held with the database: a row that names nobody is claimed again, one that names another
   * session means that this socket is the older. To be called with every fallback poll, and when the replica had to
   * register anew. Never rejects.
   */
  poll(): Promise<void> {
    return this.#comparing.poke();
  }

  /** Closes the socket of a runtime broker that has been deleted. */
  forget(runtimeBrokerId: Uuid): void {
    this.#connections.get(runtimeBrokerId)?.close(CLOSE_NORMAL, "this runtime broker has been deleted");
  }

  /** The replica has lost its place in the database: its sockets must land elsewhere. `resume` takes new ones again. */
  suspend(): void {
    this.#shut ??= "suspended";
    this.#closeAll("try another replica");
  }

  resume(): void {
    if (this.#shut === "suspended") this.#shut = undefined;
  }

  /** Takes no new socket from now on; those held stay until `drain`. */
  stopAccepting(): void {
    this.#shut = "draining";
  }

  /**
   * Takes no new socket and closes those held in a random order spread over `overMs`, each after what is on its wire has
   * ended (bounded), so that they spread over the other replicas instead of stampeding one.
   */
  async drain(overMs: number): Promise<void> {
    this.stopAccepting();
    const waiting = shuffled([...this.#connections.values()], () => this.#base.random.fraction());
    const slices = Math.max(1, Math.ceil(overMs / DRAIN_SLICE_MS));
    const perSlice = Math.max(1, Math.ceil(waiting.length / slices));
    const closing: Promise<void>[] = [];
    while (waiting.length > 0) {
      for (const connection of waiting.splice(0, perSlice)) closing.push(this.#retire(connection));
      if (waiting.length > 0) await this.#base.clock.sleep(DRAIN_SLICE_MS, this.#retiring.signal);
    }
    await Promise.all(closing);
    await this.#ownership.flush();
  }

  async #retire(connection: Connection): Promise<void> {
    const tooLong = new AbortController();
    const signal = AbortSignal.any([tooLong.signal, this.#retiring.signal]);
    await Promise.race([
      connection.retire("this replica is shutting down").finally(() => tooLong.abort()),
      this.#base.clock.sleep(DRAIN_REQUEST_MS, signal),
    ]);
    connection.close(CLOSE_RESTART, "this replica is shutting down");
  }

  /** Runs below a socket's event: what a listener throws there would end the process. */
  #tell(probe: Probe<Connection>, connection: Connection): void {
    try {
      probe.emit(connection);
    } catch (err) {
      this.#base.log.error(
        { err, runtimeBrokerId: connection.runtimeBrokerId },
        "a listener of control channels failed",
      );
    }
  }

  #closeAll(reason: string): void {
    for (const connection of [...this.#connections.values()]) connection.close(CLOSE_RESTART, reason);
  }

  async #compare(): Promise<void> {
    await this.#ownership.flush();
    const named = await this.#ownership.held();
    if (named.count === this.#connections.size && named.marks === this.#marks) {
      this.#strays = [];
      return;
    }
    const held = [...this.#connections.values()].map(({ runtimeBrokerId, sessionId }) => ({
      runtimeBrokerId,
      sessionId,
    }));
    await this.#giveUpStrays(held);
    if (held.length === 0) return;
    const mismatches = await this.#ownership.mismatches(held);
    await Promise.all(
      mismatches.map(async ({ found, runtimeBrokerId, sessionId }) => {
        const connection = this.#connections.get(runtimeBrokerId);
        if (connection?.sessionId !== sessionId || !connection.isHeld) return;
        this.#base.log.info({ runtimeBrokerId, sessionId, found }, "a held socket is not named in the database");
        if (found === "gone") connection.close(CLOSE_NORMAL, "this runtime broker has been deleted");
        else if (found === "another") connection.close(CLOSE_NORMAL, "replaced by a newer connection");
        else if (this.refusal() === undefined && (await this.#ownership.claimIfFree({ runtimeBrokerId, sessionId })))
          if (!connection.isHeld)
            // It ended meanwhile: its release came too early to see this claim.
            this.#ownership.release({ runtimeBrokerId, sessionId });
      }),
    );
  }

  /**
   * Gives up sockets that never were: the claim of a dial whose answer was lost may commit long after it was given up. One
   * that is found twice in a row, and is held neither time, is no claim under way.
   */
  async #giveUpStrays(held: readonly SocketOwnership[]): Promise<void> {
    const now = this.#base.clock.elapsed();
    if (now - this.#straysAt < this.#shared.options.straysEveryMs) return;
    this.#straysAt = now;
    const before = new Set(this.#strays.map((s) => s.sessionId));
    this.#strays = await this.#ownership.strays(held);
    for (const stray of this.#strays) {
      if (!before.has(stray.sessionId)) continue;
      this.#base.log.warn(stray, "a socket that nobody holds is given up");
      this.#ownership.release(stray);
    }
  }
}

const shuffled = <T>(items: T[], fraction: () => number): T[] => {
  for (let i = items.length - 1; i > 0; i -= 1) {
    const j = Math.floor(fraction() * (i + 1));
    const [a, b] = [items[i], items[j]];
    if (a === undefined || b === undefined) continue;
    items[i] = b;
    items[j] = a;
  }
  return items;
};
