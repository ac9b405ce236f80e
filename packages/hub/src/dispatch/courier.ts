import { HubError, notFound, type Uuid } from "@rootstock/protocol";
import { type Base, Batcher, type Service } from "@rootstock/service";
import {
  type Database,
  type Db,
  type DispatchTarget,
  insertClaimedMessage,
  insertInboxMessage,
  insertPendingMessages,
  isDatabaseUnavailable,
  isInDoubt,
  isRetryable,
  type MessageOutcome,
  messageOutcomes,
  type NewMessage,
  Wakes,
} from "@rootstock/store";
import type { CommandBus } from "../commands/index.ts";
import type { Registry } from "../control/index.ts";
import type { Membership } from "../replicas/index.ts";
import type { Span, Tracing } from "../telemetry/index.ts";
import type { AgentLocks } from "./agentLocks.ts";
import { breatherOf } from "./load.ts";
import { deliveredOutcome, Outcomes, type OutcomeWait } from "./outcomes.ts";
import type { Reconciler } from "./reconciler.ts";
import { StaleTarget, Targets } from "./targets.ts";
import { untilCertain } from "./untilCertain.ts";

export interface CourierDeps {
  readonly database: Database;
  readonly registry: Registry;
  readonly membership: Membership;
  readonly commandBus: CommandBus;
  readonly locks: AgentLocks;
  readonly reconciler: () => Reconciler;
  readonly tracing: Tracing;
  readonly changed: () => void;
}

/** How long a sender waits for the runtime broker's acknowledgement before it hears "accepted". */
const ACKNOWLEDGED_WITHIN_MS = 2_000;

/** While one insert is under way the next messages gather, and go together. A message that comes alone goes at once. */
const INSERTS = { windowMs: 0, maxItems: 64, concurrency: 1 };

const FINAL: readonly (string | null)[] = ["delivered", "failed"];

type Inserted = { readonly ok: true } | { readonly ok: false; readonly error: unknown };

/** Throws what kept a message from being stored. */
const outcomeOf = (inserted: readonly Inserted[]): void => {
  for (const one of inserted) if (!one.ok) throw one.error;
};

/** A message that is committed or about to be, and the wait for its end. */
export interface Posted {
  readonly id: Uuid;
  readonly outcome: Promise<MessageOutcome>;
}

/**
 * Accepts messages to agents. All take one path, whoever accepts them: the row first, then the owner. On the owner
 * itself the row may be inserted already claimed, and the wake-up is in memory.
 */
export class Courier implements Service {
  /** Where messages go: read for many senders at once. */
  readonly targets: Targets;
  readonly #base: Base;
  readonly #deps: CourierDeps;
  readonly #outcomes: Outcomes<MessageOutcome>;
  readonly #inserts: Batcher<NewMessage, Inserted>;
  #unsubscribe: (() => void)[] = [];

  constructor(base: Base, deps: CourierDeps) {
    this.#base = base;
    this.#deps = deps;
    this.#outcomes = new Outcomes(base.clock, base.log, (ids) => messageOutcomes(deps.database.db, ids));
    this.targets = new Targets(base.clock, deps.database);
    this.#inserts = new Batcher(base.clock, { ...INSERTS, breather: breatherOf(base.clock) }, (messages) =>
      this.#insertAll(messages),
    );
  }

  async start(): Promise<void> {
    if (this.#unsubscribe.length > 0) return;
    this.#unsubscribe = [
      this.#deps.commandBus.onDelivered((ids) => {
        for (const id of ids) this.announce(deliveredOutcome(id));
      }),
      this.#deps.commandBus.onDone((ids) => this.#outcomes.look(ids)),
      this.#deps.commandBus.onLookAtEverything(() => this.#outcomes.lookAtEverything()),
    ];
  }

  async stop(): Promise<void> {
    for (const off of this.#unsubscribe) off();
    this.#unsubscribe = [];
    await this.#inserts.idle();
  }

  /** Told by the reconciler of this replica, so that a local sender need not wait for a signal. */
  announce(outcome: MessageOutcome): void {
    this.#outcomes.announce(outcome);
  }

  /**
   * Stores a message and sees it on its way. Resolves once it is committed; `outcome` within 2 s after that. Throws
   * {@link StaleTarget}, with nothing stored, when the message carries a stamp and the target is no longer like that.
   */
  async post(given: NewMessage, target: DispatchTarget): Promise<Posted> {
    const { message, span } = this.#committing(given);
    try {
      const posted = await this.#post(message, target);
      span?.end();
      return posted;
    } catch (err) {
      span?.end("not committed");
      throw err;
    }
  }

  async #post(message: NewMessage, target: DispatchTarget): Promise<Posted> {
    if (message.holdReason !== null) {
      await this.#insert(message);
      this.posted([message]);
      const { id, holdReason } = message;
      return { id, outcome: Promise.resolve({ id, state: "pending", holdReason, error: null }) };
    }
    const wait = this.#open(message.id);
    try {
      const here = await this.#postHere(message, target);
      if (here !== "posted") {
        // Nobody may hear "failed" of what is perhaps committed: in doubt, it is stored by itself until that is certain.
        if (here === "in doubt") outcomeOf(await this.#insertAll([message], { begun: true }));
        else await this.#insert(message);
        this.posted([message]);
      }
    } catch (err) {
      wait.close();
      throw err;
    }
    return { id: message.id, outcome: this.#outcome(message.id, wait) };
  }

  /**
   * Stores messages in the caller's transaction, with what else belongs to them. Returns the ids of those whose agent is
   * gone, and which are not stored. Call {@link posted} after the commit.
   */
  async store(tx: Db, messages: readonly NewMessage[]): Promise<Uuid[]> {
    const committing = messages.map((message) => this.#committing(message));
    const gone = await this.#store(
      tx,
      committing.map(({ message }) => message),
    );
    for (const { span } of committing) span?.end();
    return gone;
  }

  #store(db: Db, messages: readonly NewMessage[]): Promise<Uuid[]> {
    return insertPendingMessages(db, { messages, acceptedBy: this.#deps.membership.instanceId });
  }

  /** The message in a span of its commit, below which its delivery goes on, on whichever replica. */
  #committing(message: NewMessage): { readonly message: NewMessage; readonly span?: Span } {
    const { tracing } = this.#deps;
    if (!tracing.on) return { message };
    const span = tracing.begin("commit message", "producer", message.traceparent, {
      "rootstock.message_id": message.id,
      "rootstock.agent_id": message.agentId ?? "",
    });
    return { message: { ...message, traceparent: span.traceparent ?? null }, span };
  }

  /** Stores a message to a person in the caller's transaction. False when the project, or the agent that writes, is gone. */
  storeForPerson(tx: Db, message: NewMessage): Promise<boolean> {
    return insertInboxMessage(tx, { message, acceptedBy: this.#deps.membership.instanceId });
  }

  /** Tells whoever holds the sockets. */
  posted(messages: readonly Pick<NewMessage, "runtimeBrokerId" | "agentId">[]): void {
    const here = new Wakes();
    const elsewhere = new Wakes();
    for (const { runtimeBrokerId, agentId } of messages)
      if (runtimeBrokerId && agentId)
        (this.#deps.registry.get(runtimeBrokerId) ? here : elsewhere).addMessage(runtimeBrokerId, agentId);
    if (here.size > 0) this.#deps.reconciler().wakeFor(here);
    if (elsewhere.size > 0) this.#deps.commandBus.wakeFor(elsewhere);
    this.#deps.changed();
  }

  /** Where a committed message stands within 2 s: also for who repeats a call. */
  outcome(id: Uuid): Promise<MessageOutcome> {
    const wait = this.#open(id);
    this.#outcomes.lookAgain(id);
    return this.#outcome(id, wait);
  }

  async #insert(message: NewMessage): Promise<void> {
    outcomeOf([await this.#inserts.add(message)]);
  }

  /** Together, or each alone when together they fail: a message that cannot be stored must not take others with it. */
  async #insertAll(
    messages: readonly NewMessage[],
    options: { readonly begun?: boolean } = {},
  ): Promise<readonly Inserted[]> {
    const { db } = this.#deps.database;
    try {
      const refused = new Set(await untilCertain(this.#base, () => this.#store(db, messages), options));
      return messages.map(({ id, stamp }) => {
        if (!refused.has(id)) return { ok: true };
        return { ok: false, error: stamp === undefined ? notFound("Agent") : new StaleTarget() };
      });
    } catch (error) {
      if (messages.length === 1 || error instanceof HubError || isDatabaseUnavailable(error)) throw error;
      const alone = messages.map((message) =>
        this.#insertAll([message]).catch((err: unknown): Inserted[] => [{ ok: false, error: err }]),
      );
      return (await Promise.all(alone)).flat();
    }
  }

  #open(id: Uuid): OutcomeWait<MessageOutcome> {
    return this.#outcomes.open(id, (row) => FINAL.includes(row.state));
  }

  async #outcome(id: Uuid, wait: OutcomeWait<MessageOutcome>): Promise<MessageOutcome> {
    const ended = await wait.wait(ACKNOWLEDGED_WITHIN_MS);
    if (ended) return ended;
    const [row] = await messageOutcomes(this.#deps.database.db, [id]).catch((err: unknown) => {
      this.#base.log.warn({ err, messageId: id }, "reading a message's outcome failed");
      return [];
    });
    return row ?? { id, state: "pending", holdReason: null, error: null };
  }

  /** The short way: "posted" when the message is stored and on the wire of a socket that this replica holds. */
  async #postHere(message: NewMessage, target: DispatchTarget): Promise<"posted" | "not posted" | "in doubt"> {
    const { registry, membership, locks, database, reconciler, changed } = this.#deps;
    const { agentId, runtimeBrokerId } = message;
    if (agentId === null || runtimeBrokerId === null || message.holdReason !== null) return "not posted";
    const connection = registry.get(runtimeBrokerId);
    if (!connection?.isOpen || !membership.mayClaim() || locks.isBusy(agentId)) return "not posted";
    if (connection.inFlight() >= connection.limits.concurrentRequests) return "not posted";
    const { instanceId } = membership;
    const claim = { instanceId, sessionId: connection.sessionId };
    const postClaimed = async (begunOn: (agentId: Uuid) => boolean) => {
      try {
        const stored = await reconciler().settlingFor(agentId, (unsettled) =>
          insertClaimedMessage(database.db, { message, acceptedBy: instanceId, claim, ...unsettled }),
        );
        if (!stored) return "not posted";
        const { slug } = target.agent;
        reconciler().deliverClaimed(
          { ...message, agentId, agentSlug: slug, runtimeBrokerId, sessionId: claim.sessionId, attempts: 1 },
          connection,
          { outOfDate: begunOn(agentId) },
        );
        changed();
        return "posted";
      } catch (err) {
        // Stored or not: the common way makes sure of it, and the reconciler gives back what is claimed and not on the wire.
        if (isInDoubt(err)) return "in doubt";
        if (isRetryable(err)) return "not posted";
        throw err;
      }
    };
    return locks.claiming((begunOn) => reconciler().expect(message.id, () => postClaimed(begunOn)));
  }
}
