import type { Uuid } from "@rootstock/protocol";
import { type AgentAt, type ClaimedInsert, type Database, type EndedDelivery, settleDelivered } from "@rootstock/store";
import type { Registry } from "../control/index.ts";
import type { Membership } from "../replicas/index.ts";

/** A message that its runtime broker has taken, and over which socket. */
export interface Acknowledged extends EndedDelivery, AgentAt {}

/** What an agent has acknowledged and nobody settles yet. */
export interface Unsettled {
  readonly acknowledged: readonly EndedDelivery[];
}

export interface SettlementDeps {
  readonly database: Database;
  readonly registry: Registry;
  readonly membership: Membership;
  /** Something waits to be settled, and nothing is under way that will see it. */
  readonly due: () => void;
}

/**
 * Between the wire and the row: which messages are on a socket or acknowledged over it, and which of these are written
 * down. What is here is never sent twice over one socket, whatever is claimed meanwhile (design section 5).
 */
export class Settlements {
  readonly #deps: SettlementDeps;
  #acknowledged: Acknowledged[] = [];
  /** Messages on the wire or acknowledged and not yet settled, by id: never sent twice over one socket. */
  readonly #onWire = new Set<Uuid>();
  /**
   * Messages acknowledged over a socket that lives, by id, whose claim was another's when they were to be settled: the
   * claim of an older socket can come late, and go with its socket. Claimed for that socket again, they are not sent again.
   */
  readonly #uncounted = new Map<Uuid, Uuid>();

  constructor(deps: SettlementDeps) {
    this.#deps = deps;
  }

  get waiting(): boolean {
    return this.#acknowledged.length > 0;
  }

  /** Whether the message is on a wire, or acknowledged and not yet settled. */
  has(messageId: Uuid): boolean {
    return this.#onWire.has(messageId);
  }

  /** From now until it is settled or given back the message is on the wire. */
  sent(messageId: Uuid): void {
    this.#onWire.add(messageId);
  }

  /** Off the wire, without having been taken. */
  givenBack(messageId: Uuid): void {
    this.#onWire.delete(messageId);
  }

  /** To be settled with the next round. */
  acknowledged(delivery: Acknowledged): void {
    this.#acknowledged.push(delivery);
  }

  /** True when what is claimed was acknowledged over this very socket before: that counts for the claim. */
  countsAgain(delivery: Acknowledged): boolean {
    if (this.#uncounted.get(delivery.id) !== delivery.sessionId) return false;
    this.#uncounted.delete(delivery.id);
    this.sent(delivery.id);
    this.acknowledged(delivery);
    this.#deps.due();
    return true;
  }

  /** Nothing is claimed for a socket that has gone. */
  socketGone(sessionId: Uuid): void {
    for (const [id, over] of this.#uncounted) if (over === sessionId) this.#uncounted.delete(id);
  }

  /** Writes down what is acknowledged, in one statement. Returns the agents for which more waits. */
  async settle(): Promise<readonly AgentAt[]> {
    const deliveries = this.#acknowledged;
    if (deliveries.length === 0) return [];
    this.#acknowledged = [];
    const { database, membership } = this.#deps;
    const { instanceId } = membership;
    try {
      const { settled, rows } = await this.#settleWith(async () => {
        const rows = await database.background(() => settleDelivered(database.db, { instanceId, deliveries }));
        return { rows, settled: rows.map((r) => r.id) };
      });
      // Whose claim has moved on is not ours any more, unless it comes back.
      const counted = new Set(settled);
      for (const delivery of deliveries) if (!counted.has(delivery.id)) this.#leaveUncounted(delivery);
      const more = new Set(rows.filter((r) => r.more).map((r) => r.id));
      return deliveries.filter((d) => more.has(d.id));
    } catch (err) {
      this.#acknowledged.unshift(...deliveries);
      throw err;
    }
  }

  /**
   * Has an insert settle what its agent has acknowledged, which the next message would otherwise have to wait for. True
   * when the message is stored.
   */
  async settlingFor(agentId: Uuid, insert: (unsettled: Unsettled) => Promise<ClaimedInsert>): Promise<boolean> {
    const ofAgent = (d: Acknowledged) => d.agentId === agentId;
    const acknowledged = this.#acknowledged.filter(ofAgent);
    if (acknowledged.length > 0) this.#acknowledged = this.#acknowledged.filter((d) => !ofAgent(d));
    let settled: readonly Uuid[] = [];
    try {
      const inserted = await this.#settleWith(() => insert({ acknowledged }));
      settled = inserted.settled;
      return inserted.stored;
    } finally {
      if (settled.length < acknowledged.length) this.#acknowledgedAgain(acknowledged, new Set(settled));
    }
  }

  /** Kept for the next round: what was acknowledged must not be sent again over this socket. */
  #acknowledgedAgain(deliveries: readonly Acknowledged[], settled: ReadonlySet<Uuid>): void {
    this.#acknowledged.unshift(...deliveries.filter((d) => !settled.has(d.id)));
    this.#deps.due();
  }

  #leaveUncounted({ id, sessionId, runtimeBrokerId }: Acknowledged): void {
    this.#onWire.delete(id);
    if (this.#deps.registry.get(runtimeBrokerId)?.sessionId === sessionId) this.#uncounted.set(id, sessionId);
  }

  /** What `work` has settled is off the wire. */
  async #settleWith<T extends { readonly settled: readonly Uuid[] }>(work: () => Promise<T>): Promise<T> {
    const result = await work();
    for (const id of result.settled) this.#onWire.delete(id);
    return result;
  }
}
