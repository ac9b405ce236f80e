import type { Uuid } from "@rootstock/protocol";
import type { Base } from "@rootstock/service";
import {
  type ClaimedMessage,
  type Database,
  type EndedDelivery,
  failMessage,
  type MessageOutcome,
  releaseMessages,
} from "@rootstock/store";
import type { CommandBus } from "../commands/index.ts";
import type { Connection } from "../control/index.ts";
import type { Metrics } from "../metrics/index.ts";
import type { Membership } from "../replicas/index.ts";
import type { Span, Tracing } from "../telemetry/index.ts";
import type { AgentLocks } from "./agentLocks.ts";
import { type DeliveryResult, deliver } from "./delivery.ts";
import type { Executor } from "./executor.ts";
import { deliveredOutcome } from "./outcomes.ts";
import { pauseAfterMs } from "./pause.ts";
import type { Settlements } from "./settlements.ts";

export interface MessagesOnWireDeps {
  readonly database: Database;
  readonly membership: Membership;
  readonly commandBus: CommandBus;
  readonly locks: AgentLocks;
  readonly executor: Executor;
  readonly metrics: Metrics;
  readonly tracing: Tracing;
  readonly settlements: Settlements;
  /** Tells the waits of this replica without a signal. */
  readonly announceMessage: (outcome: MessageOutcome) => void;
  /** After a commit that changed what others may see. */
  readonly changed: () => void;
  /** What is acknowledged is to be settled. */
  readonly round: () => void;
  /** Something may be pending for this runtime broker. */
  readonly wake: (runtimeBrokerId: Uuid) => void;
}

/** How long a message that a sender of this replica has been told of may count as under way, in milliseconds. */
const SETTLED_WITHIN_MS = 5;

/** Puts claimed messages on their sockets, and sees to what becomes of each: to be settled, failed, or given back. */
export class MessagesOnWire {
  readonly #base: Base;
  readonly #deps: MessagesOnWireDeps;
  readonly #paused = new Set<Uuid>();

  constructor(base: Base, deps: MessagesOnWireDeps) {
    this.#base = base;
    this.#deps = deps;
  }

  /** Agents that are left alone for a while. */
  paused(): Iterable<Uuid> {
    return this.#paused;
  }

  /**
   * `settledSoon`: nobody elsewhere waits to hear of the end, and the agent's next message may settle this one.
   * `outOfDate`: an operation on the agent may have come between claim and now.
   */
  async deliver(
    message: ClaimedMessage,
    connection: Connection,
    { settledSoon = false, outOfDate = false } = {},
  ): Promise<void> {
    const { agentId, runtimeBrokerId } = message;
    const { locks, metrics, announceMessage, commandBus, settlements, round, wake } = this.#deps;
    const delivery: EndedDelivery = { id: message.id, sessionId: connection.sessionId };
    if (settlements.has(message.id)) {
      // Acknowledged, and claimed anew before that was written down: it counts for this claim.
      settlements.acknowledged({ ...delivery, agentId, runtimeBrokerId });
      round();
      return;
    }
    settlements.sent(message.id);
    // After a stop, or beside one, it would meet a runtime broker that acknowledges and drops it.
    if (outOfDate || locks.inLifecycle(agentId)) {
      await this.#giveBack(message, delivery, { kind: "lost", reason: "an operation on the agent came between" });
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
    const { log } = this.#base;
    const names = { messageId: message.id, agentId, attempt: message.attempts };
    if (result.kind === "acknowledged") {
      log.debug(names, "message acknowledged");
      // Told at once, wherever somebody waits: that it was taken stays true, whenever the row comes to say so.
      announceMessage(deliveredOutcome(message.id));
      if (!settledSoon) commandBus.delivered([message.id]);
      settlements.acknowledged({ ...delivery, agentId, runtimeBrokerId });
      // Settling finds out whether more waits.
      if (settledSoon) this.#settleUnlessDone(message.id);
      // Not before the signal is on its way: somebody waits for that, and nobody for the row.
      else setImmediate(round);
      return;
    }
    log.warn({ ...names, outcome: result.kind, reason: result.reason }, "message not delivered");
    await this.#giveBack(message, delivery, result);
    wake(connection.runtimeBrokerId);
  }

  /**
   * The agent's next message settles this one. Looked at regardless, what that one is about to settle would be settled
   * beside it, and its insert would wait for the other's commit.
   */
  #settleUnlessDone(messageId: Uuid): void {
    const { settlements, round } = this.#deps;
    this.#base.clock.after(SETTLED_WITHIN_MS, () => {
      if (settlements.has(messageId)) round();
    });
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

  /** Whatever becomes of the writing, the message is off the wire: what stays claimed is found, and given back then. */
  #giveBack(
    message: ClaimedMessage,
    delivery: EndedDelivery,
    result: Exclude<DeliveryResult, { readonly kind: "acknowledged" }>,
  ): Promise<void> {
    return this.#writeBack(message, delivery, result).finally(() => this.#deps.settlements.givenBack(message.id));
  }

  async #writeBack(
    message: ClaimedMessage,
    delivery: EndedDelivery,
    result: Exclude<DeliveryResult, { readonly kind: "acknowledged" }>,
  ): Promise<void> {
    const { database, membership, executor, announceMessage, commandBus, changed } = this.#deps;
    const { instanceId } = membership;
    if (result.kind === "refused") {
      const p = { instanceId, delivery, error: result.reason };
      if (await executor.persist(() => failMessage(database.db, p))) {
        announceMessage({ id: message.id, state: "failed", holdReason: null, error: result.reason });
        commandBus.done([message.id]);
        changed();
      }
    } else {
      if (result.kind === "held") this.#pause(message);
      await executor.persist(() =>
        releaseMessages(database.db, { instanceId, deliveries: [delivery], reason: result.reason }),
      );
      if (result.kind === "lost") commandBus.wake([message.runtimeBrokerId]);
    }
  }

  /** Leaves the agent alone for a while, so that a runtime broker in trouble is not asked without a pause. */
  #pause({ agentId, runtimeBrokerId, attempts }: ClaimedMessage): void {
    this.#paused.add(agentId);
    this.#base.clock.after(pauseAfterMs(attempts), () => {
      this.#paused.delete(agentId);
      this.#deps.wake(runtimeBrokerId);
    });
  }
}
