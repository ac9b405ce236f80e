import type { Uuid } from "@rootstock/protocol";
import { type Base, type Service, SingleFlight } from "@rootstock/service";
import {
  type AgentAt,
  actingAs,
  askerOf,
  type ClaimedInsert,
  type ClaimedMessage,
  type ClaimScope,
  claimDispatches,
  claimMessages,
  claimMessagesOf,
  type Database,
  type DispatchRow,
  isUniqueViolation,
  type MessageOutcome,
  type OwnClaim,
  type ReadonlyWakes,
  runtimeBrokersWithWork,
  wakesOf,
} from "@rootstock/store";
import type { CommandBus } from "../commands/index.ts";
import type { Connection, Registry } from "../control/index.ts";
import type { Metrics } from "../metrics/index.ts";
import type { Membership } from "../replicas/index.ts";
import type { Tracing } from "../telemetry/index.ts";
import type { AgentLocks } from "./agentLocks.ts";
import type { Executor } from "./executor.ts";
import { breatherOf } from "./load.ts";
import { findLostClaims, giveBackClaims } from "./lostClaims.ts";
import { MessagesOnWire } from "./messagesOnWire.ts";
import { Settlements, type Unsettled } from "./settlements.ts";
import { WokenSockets } from "./wokenSockets.ts";

/** What the reconciler works with. */
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

/**
 * Carries out what is pending for the runtime brokers whose sockets this replica holds (design section 5).
 *
 * One round at a time, over every runtime broker that was woken since the last: acknowledged messages are settled in
 * one statement, then intents and messages are claimed, as many as the sockets take now, and put on the wire. What ends
 * wakes the next round. A round is started by a signal, by a (re)connect, by something that ended, and by the fallback
 * poll; so that with every signal lost the work is only later.
 */
export class Reconciler implements Service {
  readonly #base: Base;
  readonly #deps: ReconcilerDeps;
  readonly #rounds: SingleFlight;
  readonly #poll: SingleFlight;
  readonly #woken: WokenSockets;
  readonly #settlements: Settlements;
  readonly #messages: MessagesOnWire;
  readonly #running = new Map<Uuid, Promise<void>>();
  /** Messages that are being stored already claimed. */
  readonly #expected = new Set<Uuid>();
  /** Runtime brokers whose intents were looked for while some agent here was operated on, and not taken for it. */
  readonly #passedOver = new Set<Uuid>();
  #ownClaimsDue = false;
  #unsubscribe: (() => void)[] = [];
  #started = false;

  constructor(base: Base, deps: ReconcilerDeps) {
    this.#base = base;
    this.#deps = deps;
    const failed = (err: unknown) => {
      base.log.warn({ err }, "reconciling failed; the poll tries again");
    };
    this.#rounds = new SingleFlight(() => this.#round(), failed, breatherOf(base.clock));
    const round = () => void this.#rounds.poke();
    this.#woken = new WokenSockets(deps.registry);
    this.#settlements = new Settlements({ ...deps, due: round });
    this.#messages = new MessagesOnWire(base, {
      ...deps,
      settlements: this.#settlements,
      round,
      wake: (id) => this.wake([id]),
    });
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
      registry.onDisconnected(({ sessionId }) => this.#settlements.socketGone(sessionId)),
      registry.onRoom(({ runtimeBrokerId }) => {
        if (this.#woken.hasRoom(runtimeBrokerId)) this.wake([runtimeBrokerId]);
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
    this.#woken.wake(wakes);
    if (this.#woken.any || this.#settlements.waiting) void this.#rounds.poke();
  }

  /** What an operation kept from going on may go on; `more`: its agent is known to have more that waits. */
  operationEnded(runtimeBrokerId: Uuid, more: boolean): void {
    if (this.#passedOver.delete(runtimeBrokerId) || more) this.wake([runtimeBrokerId]);
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
  deliverClaimed(
    message: ClaimedMessage,
    connection: Connection,
    { outOfDate }: { readonly outOfDate: boolean },
  ): void {
    this.#track(message.id, this.#messages.deliver(message, connection, { settledSoon: true, outOfDate }));
  }

  /** See {@link Settlements.settlingFor}. */
  settlingFor(agentId: Uuid, insert: (unsettled: Unsettled) => Promise<ClaimedInsert>): Promise<boolean> {
    return this.#settlements.settlingFor(agentId, insert);
  }

  #findWork(): Promise<Uuid[]> {
    const { database, membership } = this.#deps;
    return database.background(() => runtimeBrokersWithWork(database.db, membership.instanceId));
  }

  async #round(): Promise<void> {
    for (const agent of await this.#settlements.settle()) this.#woken.add(agent);

    if (!this.#started || !this.#deps.membership.mayClaim()) return;
    if (this.#ownClaimsDue) await this.#takeBackOwnClaims();
    await this.#deps.locks.claiming((begunOn) => this.#claim(begunOn));
  }

  async #claim(begunOn: (agentId: Uuid) => boolean): Promise<void> {
    const { membership, locks } = this.#deps;
    const { intents, messages, some, agents } = this.#woken.take();
    const { instanceId } = membership;
    const scope = { instanceId, busyAgents: [...locks.busy(), ...this.#messages.paused()] };
    const begin = (claimed: readonly ClaimedMessage[]) => {
      for (const message of claimed) this.#beginDelivery(message, begunOn(message.agentId));
    };
    if (agents.length > 0) begin(await this.#claimOf({ ...scope, sockets: some, agents }));
    await Promise.all([
      intents.length > 0 && this.#claimIntents({ instanceId, busyAgents: locks.operatedOn(), sockets: intents }),
      messages.length > 0 && this.#claimMessages({ ...scope, sockets: messages }).then(begin),
    ]);
  }

  /** Claims what waits for the agents that were woken. */
  #claimOf(p: ClaimScope & { readonly agents: readonly AgentAt[] }): Promise<ClaimedMessage[]> {
    const { database } = this.#deps;
    return this.#unlessTaken(p, [], () => database.background(() => claimMessagesOf(database.db, p)));
  }

  /** Claims and begins the intents that wait for these sockets: beside a message that is on the wire they wait for its end. */
  async #claimIntents(p: ClaimScope): Promise<void> {
    const { database } = this.#deps;
    if (p.busyAgents.length > 0) for (const { runtimeBrokerId } of p.sockets) this.#passedOver.add(runtimeBrokerId);
    for (const row of await database.background(() => claimDispatches(database.db, p)))
      this.#begin(row.runtime_broker_id, row.claim_session, (c) => this.#run(row, c));
  }

  /** Claims the messages that wait for these sockets. */
  #claimMessages(p: ClaimScope): Promise<ClaimedMessage[]> {
    const { database } = this.#deps;
    return this.#unlessTaken(p, [], () => database.background(() => claimMessages(database.db, p)));
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

  #beginDelivery(message: ClaimedMessage, begunMeanwhile: boolean): void {
    const { id, sessionId, agentId, runtimeBrokerId } = message;
    if (this.#settlements.countsAgain({ id, sessionId, agentId, runtimeBrokerId })) return;
    // What has to wait for its end over the socket before is looked at anew after that.
    const outOfDate = begunMeanwhile || this.#running.has(id);
    this.#begin(runtimeBrokerId, sessionId, (c) => this.#messages.deliver(message, c, { outOfDate }), id);
  }

  /** Gives back what is claimed in this replica's name and lost. Part of the round, so that nothing is being claimed meanwhile. */
  async #takeBackOwnClaims(): Promise<void> {
    const { database, membership, locks } = this.#deps;
    const { instanceId } = membership;
    const isUnderWay = ({ kind, id, agentId }: OwnClaim): boolean =>
      kind === "dispatch"
        ? agentId !== null && locks.inLifecycle(agentId)
        : [this.#settlements, this.#running, this.#expected].some((ids) => ids.has(id));
    const lost = await findLostClaims(database, instanceId, isUnderWay);
    this.#ownClaimsDue = false;
    if (lost.length === 0) return;
    this.#base.log.warn({ claims: lost }, "claims that nobody here knows of are given back");
    await giveBackClaims(database, instanceId, lost);
    this.#woken.wake(wakesOf(lost.flatMap(({ runtimeBrokerId }) => runtimeBrokerId ?? [])));
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
    // The same message may not have come to its end here, over the socket before, or over this one for a claim that was lost.
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
    const asker = () => askerOf({ createdBy: row.created_by, dispatchId: row.id });
    const outcome = await locks.lifecycle(agentId, () => actingAs(asker, () => executor.run(job, connection)));
    metrics.dispatches.inc({ op: row.op, way: "forward", outcome: outcome.kind });
    metrics.dispatchSeconds.observe({ op: row.op, way: "forward" }, (this.#base.clock.elapsed() - started) / 1000);
    if (outcome.kind === "lost") commandBus.wake([row.runtime_broker_id]);
    // Lost on its last attempt it is over, too.
    commandBus.done([row.id]);
    this.operationEnded(row.runtime_broker_id, outcome.kind === "lost" || outcome.more);
  }
}
