import type { Uuid } from "@rootstock/protocol";
import { type Base, Batcher, type Log, SingleFlight } from "@rootstock/service";
import {
  type AffinityMismatch,
  type ClaimedRuntimeBroker,
  claimRuntimeBrokerIfFree,
  claimRuntimeBrokers,
  type Database,
  findMismatches,
  findStraySockets,
  type HeldByDatabase,
  heldByDatabase,
  releaseRuntimeBrokers,
  type SocketOwnership,
  transaction,
  type VoidedClaims,
  voidOlderClaims,
} from "@rootstock/store";

/** This replica, as the database knows it. `Membership` is one. */
export interface ThisReplica {
  readonly instanceId: Uuid;
  /** False while the replica cannot prove that it lives: it must not claim then. */
  mayClaim(): boolean;
}

/** Tells other parts and replicas what has been committed. `Signaller` is one. */
export interface Announcements {
  changed(): void;
  done(dispatchIds: Iterable<Uuid>): void;
}

export type PoolOfConnections = Pick<Database, "db" | "background">;

/** Dials that come while others are being claimed go together: ten thousand at once take a hundred commits. */
const CLAIMS = { windowMs: 0, maxItems: 200, concurrency: 2 };

/** What this replica writes about the sockets that it holds (design section 4). All of it is work nobody waits for. */
export class Ownership {
  readonly #database: PoolOfConnections;
  readonly #replica: ThisReplica;
  readonly #announce: Announcements;
  readonly #log: Log;
  readonly #claims: Batcher<SocketOwnership, { readonly before: ClaimedRuntimeBroker | undefined }>;
  /** The last claim of each runtime broker that is under way. */
  readonly #claiming = new Map<Uuid, Promise<unknown>>();
  #toRelease: SocketOwnership[] = [];
  readonly #releasing: SingleFlight;

  constructor(database: PoolOfConnections, replica: ThisReplica, announce: Announcements, base: Base) {
    this.#database = database;
    this.#replica = replica;
    this.#announce = announce;
    this.#log = base.log;
    this.#claims = new Batcher(base.clock, CLAIMS, (sockets) => this.#claimAll(sockets));
    this.#releasing = new SingleFlight(
      () => this.#release(),
      (err) => base.log.warn({ err }, "releasing runtime brokers failed"),
    );
  }

  get mayClaim(): boolean {
    return this.#replica.mayClaim();
  }

  /**
   * Makes the socket the owner: the newest wins. `displaced`: the one before had not been given up. Undefined when there
   * is no such runtime broker.
   */
  async claim(socket: SocketOwnership): Promise<{ readonly displaced: boolean; readonly mark: bigint } | undefined> {
    const { runtimeBrokerId } = socket;
    // Batches pass each other: one after the other, or the socket before could be named the owner after this one.
    const earlier = this.#claiming.get(runtimeBrokerId);
    const claiming = earlier
      ? earlier.then(
          () => this.#claims.add(socket),
          () => this.#claims.add(socket),
        )
      : this.#claims.add(socket);
    this.#claiming.set(runtimeBrokerId, claiming);
    const { before } = await claiming.finally(() => {
      if (this.#claiming.get(runtimeBrokerId) === claiming) this.#claiming.delete(runtimeBrokerId);
    });
    return before && { displaced: before.displaced !== undefined, mark: before.mark };
  }

  /** Claims for a socket held all along, only while nobody else does. */
  async claimIfFree(socket: SocketOwnership): Promise<boolean> {
    const voided = await this.#database.background(() =>
      transaction(this.#database.db, async (tx) =>
        (await claimRuntimeBrokerIfFree(tx, this.#replica.instanceId, socket))
          ? voidOlderClaims(tx, [socket])
          : undefined,
      ),
    );
    if (voided) this.#tell([socket], voided);
    return voided !== undefined;
  }

  /**
   * Gives up a socket that has ended. Sockets that end together are given up together; what fails is tried again by the
   * next call of `flush`: a row that names a dead socket of a living replica would mislead everybody.
   */
  release(socket: SocketOwnership): void {
    this.#toRelease.push(socket);
    void this.flush();
  }

  /** Resolves when an attempt to give up everything ended has been made. */
  flush(): Promise<void> {
    return this.#toRelease.length === 0 ? this.#releasing.idle() : this.#releasing.poke();
  }

  /** What the database names as held by this replica, in short. */
  held(): Promise<HeldByDatabase> {
    return this.#database.background(() => heldByDatabase(this.#database.db, this.#replica.instanceId));
  }

  /** The held sockets that the database does not name as held by this replica. */
  mismatches(held: readonly SocketOwnership[]): Promise<readonly AffinityMismatch[]> {
    return this.#database.background(() => findMismatches(this.#database.db, this.#replica.instanceId, held));
  }

  /** What the database names as held by this replica beside these. */
  strays(held: readonly SocketOwnership[]): Promise<readonly SocketOwnership[]> {
    return this.#database.background(() => findStraySockets(this.#database.db, this.#replica.instanceId, held));
  }

  async #claimAll(
    sockets: readonly SocketOwnership[],
  ): Promise<readonly { readonly before: ClaimedRuntimeBroker | undefined }[]> {
    // Of two sockets of one runtime broker the later one wins, and takes the earlier one's place.
    const newest = new Map(sockets.map((s) => [s.runtimeBrokerId, s]));
    const hubId = this.#replica.instanceId;
    const { before, voided, claimed } = await this.#database.background(() =>
      transaction(this.#database.db, async (tx) => {
        const before = await claimRuntimeBrokers(tx, hubId, [...newest.values()]);
        const claimed = [...newest.values()].filter((s) => before.has(s.runtimeBrokerId));
        return { before, claimed, voided: claimed.length > 0 ? await voidOlderClaims(tx, claimed) : undefined };
      }),
    );
    if (voided) this.#tell(claimed, voided);
    const sessions = new Map<Uuid, Uuid>();
    return sockets.map(({ runtimeBrokerId, sessionId }) => {
      const earlier = sessions.get(runtimeBrokerId);
      sessions.set(runtimeBrokerId, sessionId);
      const found = before.get(runtimeBrokerId);
      return { before: found && earlier ? { ...found, displaced: { hubId, sessionId: earlier } } : found };
    });
  }

  async #release(): Promise<void> {
    const sockets = this.#toRelease;
    this.#toRelease = [];
    if (sockets.length === 0) return;
    try {
      await this.#database.background(() =>
        releaseRuntimeBrokers(this.#database.db, this.#replica.instanceId, sockets),
      );
    } catch (err) {
      this.#toRelease.push(...sockets);
      throw err;
    }
  }

  #tell(sockets: readonly SocketOwnership[], voided: VoidedClaims): void {
    this.#announce.changed();
    if (voided.failed.length > 0) this.#announce.done(voided.failed);
    if (voided.returned.length + voided.failed.length + voided.messages > 0)
      this.#log.info(
        {
          ...(sockets.length === 1 ? sockets[0] : { runtimeBrokers: sockets.length }),
          dispatches: voided.returned.length,
          failedDispatches: voided.failed.length,
          messages: voided.messages,
        },
        "claims of an older session are void",
      );
  }
}
