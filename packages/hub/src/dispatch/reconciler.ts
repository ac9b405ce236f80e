import type { Uuid } from "@rootstock/protocol";
import { type Base, type Service, SingleFlight } from "@rootstock/service";
import {
  type AgentAt,
  actingAs,
  type ClaimedInsert,
  type ClaimedMessage,
  type ClaimScope,
  claimDispatches,
  claimMessages,
  claimMessagesOf,
  type Database,
  type DispatchRow,
  type EndedDelivery,
  failMessage,
  type HeldSocket,
  isUniqueViolation,
  type MessageOutcome,
  type OwnClaim,
  ownClaims,
  type ReadonlyWakes,
  releaseDispatch,
  releaseMessages,
  runtimeBrokersWithWork,
  settleDelivered,
  Wakes,
  wakesOf,
} from "@rootstock/store";
import type { CommandBus } from "../commands/index.ts";
import type { Connection, Registry } from "../control/index.ts";
import type { Metrics } from "../metrics/index.ts";
import type { Membership } from "../replicas/index.ts";
import type { Span, Tracing } from "../telemetry/index.ts";
import type { AgentLocks } from "./agentLocks.ts";
import { deliver } from "./delivery.ts";
import type { Executor } from "./executor.ts";
import { breatherOf } from "./load.ts";
import { pauseAfterMs } from "./pause.ts";

/**
 * Carries out what is pending for the runtime brokers whose sockets this replica holds (design section 5).
 *
 * One round at a time, over every runtime broker that was woken since the last: acknowledged messages are settled in
 * one statement, then intents and messages are claimed, as many as the sockets take now, and put on the wire. What ends
 * wakes the next round. A round is started by a signal, by a (re)connect, by something that ended, and by the fallback
 * poll; so that with every signal lost the work is only later.
 */
export interface ReconcilerDeps {
  readonly database: Database;
  readonly registry: Registry;
  readonly membership: Membership;
  readonly commandBus: CommandBus;
  readonly locks: AgentLocks;
  readonly executor: Executor;
  readonly metrics: Metrics;
  readonly tracing: Tracing;
  /** Tells the waits of this replica without a signal. */
  readonly announceMessage: (outcome: MessageOutcome) => void;
  /** After a commit that changed what others may see. */
  readonly changed: () => void;
}

interface Acknowledged extends EndedDelivery, AgentAt {}

/** The sockets of a round: looked at as a whole, or for these agents alone. */
interface Sockets {
  readonly whole: readonly HeldSocket[];
  readonly some: readonly HeldSocket[];
  readonly agents: readonly AgentAt[];
}

/** How long a message that a sender of this replica has been told of may count as under way, in milliseconds. */
const SETTLED_WITHIN_MS = 5;

/** What an agent has acknowledged and is not settled yet: by nobody, or by a statement under way. */
export interface Unsettled {
  readonly acknowledged: readonly EndedDelivery[];
  readonly settling: readonly Uuid[];
}

export class Reconciler implements Service {
  readonly #base: Base;
  readonly #deps: ReconcilerDeps;
  readonly #rounds: SingleFlight;
  readonly #poll: SingleFlight;
  #woken = new Wakes();
  /** What was woken while its socket had no room: whatever leaves the wire there wakes it again. */
  readonly #crowded = new Wakes();
  #acknowledged: Acknowledged[] = [];
  /** Those of them that a statement under way settles. */
  readonly #settling = new Set<Acknowledged>();
  /** Messages on the wire or acknowledged and not yet settled, by id: never sent twice over one socket. */
  readonly #onWire = new Map<Uuid, Uuid>();
  /**
   * Messages acknowledged over a socket that lives, by id, whose claim was another's when they were to be settled: the
   * claim of an older socket can come late, and go with its socket. Claimed for that socket again, they are not sent again.
   */
  readonly #uncounted = new Map<Uuid, Uuid>();
  readonly #running = new Map<Uuid, Promise<void>>();
  /** Messages that are being stored already claimed. */
  readonly #expected = new Set<Uuid>();
  #ownClaimsDue = false;
  readonly #paused = new Set<Uuid>();
  #unsubscribe: (() => void)[] = [];
  #started = false;

  constructor(base: Base, deps: ReconcilerDeps) {
    this.#base = base;
    this.#deps = deps;
    const failed = (err: unknown) => {
      base.log.warn({ err }, "reconciling failed; the poll tries again");
    };
    this.#rounds = new SingleFlight(() => this.#round(), failed, breatherOf(base.clock));
    this.#poll = new SingleFlight(async () => {
      this.wake(await this.#findWork());
      this.#ownClaimsDue = true;
      void this.#rounds.poke();
    }, failed);
  }

  async start(): Promise<void> {
    if (this.#started) return;
    this.#started = true;
    const { commandBus, registry } = this.#deps;
    this.#unsubscribe = [
      commandBus.onWake((wakes) => this.wakeFor(wakes)),
      commandBus.onLookAtEverything(() => void this.#poll.poke()),
      registry.onConnected((connection) => this.wake([connection.runtimeBrokerId])),
      registry.onDisconnected(({ sessionId }) => {
        for (const [id, over] of this.#uncounted) if (over === sessionId) this.#uncounted.delete(id);
      }),
      registry.onRoom(({ runtimeBrokerId }) => {
        if (this.#crowded.delete(runtimeBrokerId)) this.wake([runtimeBrokerId]);
      }),
    ];
  }

  /** Claims nothing more, and waits for what is on the wire to end and be written. */
  async stop(): Promise<void> {
    this.#started = false;
    for (const off of this.#unsubscribe) off();
    this.#unsubscribe = [];
    await Promise.allSettled([...this.#running.values()]);
    await this.#rounds.poke();
    await this.#poll.idle();
  }

  /** Something may be pending for these runtime brokers. Those whose socket is elsewhere are ignored. */
  wake(runtimeBrokerIds: Iterable<Uuid>): void {
    this.wakeFor(wakesOf(runtimeBrokerIds));
  }

  /** As {@link wake}; where agents are named, only messages for these are looked for. */
  wakeFor(wakes: ReadonlyWakes): void {
    for (const wake of wakes) if (this.#deps.registry.get(wake[0])) this.#woken.merge([wake]);
    if (this.#woken.size > 0 || this.#acknowledged.length > 0) void this.#rounds.poke();
  }

  /** A message that is being stored already claimed is not missing on the wire while `storing` runs. */
  async expect<T>(messageId: Uuid, storing: () => Promise<T>): Promise<T> {
    this.#expected.add(messageId);
    try {
      return await storing();
    } finally {
      this.#expected.delete(messageId);
    }
  }

  /** Puts a message on the wire that was stored already claimed for `connection`. */
  deliverClaimed(message: ClaimedMessage, connection: Connection): void {
    this.#track(message.id, this.#deliver(message, connection, { settledSoon: true }));
  }

  /**
   * Has an insert settle what its agent has acknowledged, which the next message would otherwise have to wait for. True
   * when the message is stored.
   */
  async settlingFor(agentId: Uuid, insert: (unsettled: Unsettled) => Promise<ClaimedInsert>): Promise<boolean> {
    const ofAgent = (d: Acknowledged) => d.agentId === agentId;
    const settling = [...this.#settling].filter(ofAgent).map((d) => d.id);
    const acknowledged = this.#acknowledged.filter(ofAgent);
    if (acknowledged.length > 0) this.#acknowledged = this.#acknowledged.filter((d) => !ofAgent(d));
    try {
      const { stored, settled } = await this.#settleWith(acknowledged, () => insert({ acknowledged, settling }));
      if (settled.length < acknowledged.length) this.#acknowledgedAgain(acknowledged, new Set(settled));
      return stored;
    } catch (err) {
      this.#acknowledgedAgain(acknowledged, new Set());
      throw err;
    }
  }

  /** Kept for the next round: what was acknowledged must not be sent again over this socket. */
  #acknowledgedAgain(deliveries: readonly Acknowledged[], settled: ReadonlySet<Uuid>): void {
    this.#acknowledged.unshift(...deliveries.filter((d) => !settled.has(d.id)));
    void this.#rounds.poke();
  }

  #leaveUncounted({ id, sessionId, runtimeBrokerId }: Acknowledged): void {
    this.#onWire.delete(id);
    if (this.#deps.registry.get(runtimeBrokerId)?.sessionId === sessionId) this.#uncounted.set(id, sessionId);
  }

  /** While `work` settles these deliveries, they count as neither acknowledged nor settled. */
  async #settleWith<T extends { readonly settled: readonly Uuid[] }>(
    deliveries: readonly Acknowledged[],
    work: () => Promise<T>,
  ): Promise<T> {
    for (const delivery of deliveries) this.#settling.add(delivery);
    try {
      const result = await work();
      for (const id of result.settled) this.#onWire.delete(id);
      this.#deps.commandBus.done(result.settled);
      return result;
    } finally {
      for (const delivery of deliveries) this.#settling.delete(delivery);
    }
  }

  #findWork(): Promise<Uuid[]> {
    const { database, membership } = this.#deps;
    return database.background(() => runtimeBrokersWithWork(database.db, membership.instanceId));
  }

  async #round(): Promise<void> {
    await this.#settle();
    if (!this.#started || !this.#deps.membership.mayClaim()) return;
    if (this.#ownClaimsDue) await this.#takeBackOwnClaims();
    const { membership, locks } = this.#deps;
    const { whole, some, agents } = this.#takeSockets();
    const scope = { instanceId: membership.instanceId, busyAgents: [...locks.busy(), ...this.#paused] };
    if (agents.length > 0) await this.#claimOf({ ...scope, sockets: some, agents });
    if (whole.length > 0) await this.#claimAll({ ...scope, sockets: whole });
  }

  /** Claims and begins what waits for the agents that were woken. */
  async #claimOf(p: ClaimScope & { readonly agents: readonly AgentAt[] }): Promise<void> {
    const { database } = this.#deps;
    for (const message of await this.#unlessTaken(p, [], () =>
      database.background(() => claimMessagesOf(database.db, p)),
    ))
      this.#beginDelivery(message);
  }

  /** Claims and begins whatever waits for these sockets. */
  async #claimAll(p: ClaimScope): Promise<void> {
    const { database } = this.#deps;
    const dispatches = async () => {
      for (const row of await database.background(() => claimDispatches(database.db, p)))
        this.#begin(row.runtime_broker_id, row.claim_session, (c) => this.#run(row, c));
    };
    const messages = async () => {
      const claimed = await this.#unlessTaken(p, [], () => database.background(() => claimMessages(database.db, p)));
      for (const message of claimed) this.#beginDelivery(message);
    };
    await Promise.all([dispatches(), messages()]);
  }

  /** Somebody may put a message of an agent on the wire between our look and our claim: then we look again. */
  async #unlessTaken<T>(p: ClaimScope, nothing: T, claim: () => Promise<T>): Promise<T> {
    try {
      return await claim();
    } catch (err) {
      if (!isUniqueViolation(err, "messages_one_in_flight")) throw err;
      this.wake(p.sockets.map((s) => s.runtimeBrokerId));
      return nothing;
    }
  }

  #beginDelivery(message: ClaimedMessage): void {
    const { id, sessionId, agentId, runtimeBrokerId } = message;
    if (this.#uncounted.get(id) === sessionId) {
      this.#uncounted.delete(id);
      this.#onWire.set(id, sessionId);
      this.#acknowledged.push({ id, sessionId, agentId, runtimeBrokerId });
      void this.#rounds.poke();
      return;
    }
    this.#begin(message.runtimeBrokerId, message.sessionId, (c) => this.#deliver(message, c), message.id);
  }

  /**
   * Gives back what is claimed in this replica's name and is not under way here: its connection broke after the claim was
   * committed and before anybody was told. Without this it would be nobody's for as long as socket and replica live, and
   * keep the agent's later work back. Part of the round, so that nothing is being claimed meanwhile.
   */
  async #takeBackOwnClaims(): Promise<void> {
    const { database, membership, locks } = this.#deps;
    const { instanceId } = membership;
    const claims = await database.background(() => ownClaims(database.db, instanceId));
    this.#ownClaimsDue = false;
    const isUnderWay = ({ kind, id, agentId }: OwnClaim): boolean =>
      kind === "dispatch"
        ? agentId !== null && locks.inLifecycle(agentId)
        : [this.#onWire, this.#running, this.#expected].some((ids) => ids.has(id));
    const lost = claims.filter((claim) => !isUnderWay(claim));
    if (lost.length === 0) return;
    const reason = "the answer to its claim was lost";
    this.#base.log.warn({ claims: lost }, "claims that nobody here knows of are given back");
    const deliveries = lost.filter((c) => c.kind === "message");
    if (deliveries.length > 0)
      await database.background(() => releaseMessages(database.db, { instanceId, deliveries, reason }));
    for (const { id, kind, sessionId } of lost)
      if (kind === "dispatch") {
        const claim = { instanceId, sessionId };
        await database.background(() => releaseDispatch(database.db, { id, claim, sent: false, reason }));
      }
    for (const { runtimeBrokerId } of lost)
      if (runtimeBrokerId && this.#deps.registry.get(runtimeBrokerId)) this.#woken.add(runtimeBrokerId);
  }

  /** The woken runtime brokers with room on their sockets. What occupies the others may be no work of ours. */
  #takeSockets(): Sockets {
    const whole: HeldSocket[] = [];
    const some: HeldSocket[] = [];
    const agents: AgentAt[] = [];
    for (const [runtimeBrokerId, agentIds] of this.#woken) {
      const connection = this.#deps.registry.get(runtimeBrokerId);
      this.#crowded.delete(runtimeBrokerId);
      if (!connection?.isOpen) continue;
      const slots = connection.limits.concurrentRequests - connection.inFlight();
      const socket = { runtimeBrokerId, sessionId: connection.sessionId, slots };
      if (slots <= 0 || (agentIds && agentIds.size > slots)) this.#crowded.merge([[runtimeBrokerId, agentIds]]);
      if (slots <= 0) continue;
      if (agentIds === undefined) whole.push(socket);
      else {
        some.push(socket);
        for (const agentId of [...agentIds].slice(0, slots)) agents.push({ agentId, runtimeBrokerId });
      }
    }
    this.#woken = new Wakes();
    return { whole, some, agents };
  }

  #begin(
    runtimeBrokerId: Uuid,
    sessionId: Uuid | null,
    work: (connection: Connection) => Promise<void>,
    key: Uuid = this.#base.random.uuid(),
  ): void {
    const connection = this.#deps.registry.get(runtimeBrokerId);
    // The socket went between claim and here: its successor voids the claim, or the reaper does.
    if (!connection || connection.sessionId !== sessionId) return;
    // Taken for dead meanwhile, this replica may claim again what it has on this very wire: that stands for it.
    if (this.#onWire.get(key) === sessionId) return;
    // Over the socket before, the same message may not have come to its end here, while it is claimed for this one.
    const before = this.#running.get(key);
    this.#track(key, before ? before.then(() => work(connection)) : work(connection));
  }

  #track(key: Uuid, work: Promise<void>): void {
    const tracked = work
      .catch((err: unknown) => this.#base.log.error({ err }, "reconciling one item failed"))
      .finally(() => {
        if (this.#running.get(key) === tracked) this.#running.delete(key);
      });
    this.#running.set(key, tracked);
  }

  async #run(row: DispatchRow, connection: Connection): Promise<void> {
    const { agent_id: agentId } = row;
    if (!agentId) return;
    const { locks, executor, commandBus, metrics } = this.#deps;
    const started = this.#base.clock.elapsed();
    const job = {
      id: row.id,
      op: row.op,
      agentId,
      agentSlug: row.agent_slug,
      projectId: row.project_id,
      args: row.args,
      attempt: row.attempts,
      traceparent: row.traceparent,
    };
    // Not on behalf of whoever's call has woken this replica.
    const asker = () => ({
      kind: "system",
      id: row.created_by ?? undefined,
      credential: "dispatch",
      credentialId: row.id,
    });
    const outcome = await locks.lifecycle(agentId, () => actingAs(asker, () => executor.run(job, connection)));
    metrics.dispatches.inc({ op: row.op, way: "forward", outcome: outcome.kind });
    metrics.dispatchSeconds.observe({ op: row.op, way: "forward" }, (this.#base.clock.elapsed() - started) / 1000);
    if (outcome.kind === "lost") commandBus.wake([row.runtime_broker_id]);
    else commandBus.done([row.id]);
    this.wake([row.runtime_broker_id]);
  }

  /** `settledSoon`: nobody elsewhere waits to hear of the end, and the agent's next message may settle this one. */
  async #deliver(message: ClaimedMessage, connection: Connection, { settledSoon = false } = {}): Promise<void> {
    const { agentId, runtimeBrokerId } = message;
    const delivery: EndedDelivery = { id: message.id, sessionId: connection.sessionId };
    if (this.#onWire.has(message.id)) {
      // Acknowledged over the socket before, and claimed anew before that was written down: it counts for this claim.
      this.#acknowledged.push({ ...delivery, agentId, runtimeBrokerId });
      void this.#rounds.poke();
      return;
    }
    this.#onWire.set(message.id, connection.sessionId);
    const { locks, metrics, announceMessage } = this.#deps;
    // A stop that began while the message was claimed would meet it at a runtime broker that acknowledges and drops it.
    if (locks.inLifecycle(agentId)) {
      await this.#giveBack(message, delivery, { kind: "lost", reason: "an operation on the agent is under way" });
      return;
    }
    const started = this.#base.clock.elapsed();
    const span = this.#span(message);
    const result = await locks.message(agentId, () =>
      deliver(message, connection, span ? span.traceparent : message.traceparent),
    );
    span?.set({ "rootstock.outcome": result.kind });
    span?.end(result.kind === "acknowledged" ? undefined : result.reason);
    metrics.dispatches.inc({ op: "message", way: "socket", outcome: result.kind });
    metrics.dispatchSeconds.observe({ op: "message", way: "socket" }, (this.#base.clock.elapsed() - started) / 1000);
    const log = this.#base.log.child({ messageId: message.id, agentId, attempt: message.attempts });
    if (result.kind === "acknowledged") {
      log.debug({}, "message acknowledged");
      announceMessage({ id: message.id, state: "delivered", holdReason: null, error: null });
      this.#acknowledged.push({ ...delivery, agentId, runtimeBrokerId });
      if (settledSoon) {
        this.#base.clock.after(SETTLED_WITHIN_MS, () => void this.#rounds.poke());
        return;
      }
    } else {
      log.warn({ outcome: result.kind, reason: result.reason }, "message not delivered");
      await this.#giveBack(message, delivery, result);
    }
    this.#wakeFor(connection.runtimeBrokerId, result.kind);
  }

  /** The span of one attempt, below the message's commit; none where nobody collects any. */
  #span({ id, agentId, runtimeBrokerId, attempts, traceparent }: ClaimedMessage): Span | undefined {
    const { tracing } = this.#deps;
    if (!tracing.on) return undefined;
    return tracing.begin("deliver message", "consumer", traceparent, {
      "rootstock.message_id": id,
      "rootstock.agent_id": agentId,
      "rootstock.runtime_broker_id": runtimeBrokerId,
      "rootstock.attempt": attempts,
    });
  }

  async #giveBack(
    message: ClaimedMessage,
    delivery: EndedDelivery,
    result: { readonly kind: "refused" | "held" | "lost"; readonly reason: string },
  ): Promise<void> {
    const { database, membership, executor, announceMessage, commandBus, changed } = this.#deps;
    const instanceId = membership.instanceId;
    if (result.kind === "refused") {
      const p = { instanceId, delivery, error: result.reason };
      if (await executor.persist(() => failMessage(database.db, p))) {
        announceMessage({ id: message.id, state: "failed", holdReason: null, error: result.reason });
        commandBus.done([message.id]);
        changed();
      }
    } else {
      if (result.kind === "held") this.#pause(message);
      await executor.persist(async () => {
        await releaseMessages(database.db, { instanceId, deliveries: [delivery], reason: result.reason });
        return true;
      });
      if (result.kind === "lost") commandBus.wake([message.runtimeBrokerId]);
    }
    this.#onWire.delete(message.id);
  }

  /** Leaves the agent alone for a while, so that a runtime broker in trouble is not asked without a pause. */
  #pause({ agentId, runtimeBrokerId, attempts }: ClaimedMessage): void {
    this.#paused.add(agentId);
    this.#base.clock.after(pauseAfterMs(attempts), () => {
      this.#paused.delete(agentId);
      this.wake([runtimeBrokerId]);
    });
  }

  /** An acknowledgement only needs settling, which finds out whether more waits; anything else looks again itself. */
  #wakeFor(runtimeBrokerId: Uuid, kind: string): void {
    if (kind === "acknowledged") void this.#rounds.poke();
    else this.wake([runtimeBrokerId]);
  }

  async #settle(): Promise<void> {
    const deliveries = this.#acknowledged;
    if (deliveries.length === 0) return;
    this.#acknowledged = [];
    const { database, membership } = this.#deps;
    const { instanceId } = membership;
    try {
      const { settled, rows } = await this.#settleWith(deliveries, async () => {
        const rows = await database.background(() => settleDelivered(database.db, { instanceId, deliveries }));
        return { rows, settled: rows.map((r) => r.id) };
      });
      const agents = new Map(deliveries.map((d) => [d.id, d]));
      for (const { id, more } of rows) {
        const at = more ? agents.get(id) : undefined;
        if (at) this.#woken.add(at.runtimeBrokerId, at.agentId);
      }
      // Whose claim has moved on is not ours any more, unless it comes back.
      const counted = new Set(settled);
      for (const delivery of deliveries) if (!counted.has(delivery.id)) this.#leaveUncounted(delivery);
    } catch (err) {
      this.#acknowledged.unshift(...deliveries);
      throw err;
    }
  }
}
