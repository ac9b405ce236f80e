import { HubError, type Uuid } from "@rootstock/protocol";
import type { Base, Service } from "@rootstock/service";
import {
  type AgentView,
  actingAs,
  askerOf,
  currentActor,
  type Database,
  type Db,
  type DispatchOp,
  type DispatchOutcome,
  type DispatchTarget,
  deleteAgentRows,
  dispatchOutcomes,
  insertClaimedDispatch,
  insertDispatch,
  intentAt,
  isForeignKeyViolation,
  isInDoubt,
  type NewDispatch,
  transaction,
  withdrawDispatch,
} from "@rootstock/store";
import { z } from "zod";
import type { EventBus } from "../bus/index.ts";
import type { CommandBus } from "../commands/index.ts";
import type { Registry } from "../control/index.ts";
import type { Metrics } from "../metrics/index.ts";
import type { Membership } from "../replicas/index.ts";
import type { Tracing } from "../telemetry/index.ts";
import type { AgentLocks } from "./agentLocks.ts";
import type { Executor, JobOutcome } from "./executor.ts";
import { type HaltReply, type HaltRequest, type HaltsAtOwner, OWNER_ANSWERS_WITHIN_MS } from "./haltsAtOwner.ts";
import { isHalt, type OperationFailure, storedFailure } from "./operations/index.ts";
import { Outcomes, type OutcomeWait } from "./outcomes.ts";
import { RECONNECT_GRACE_SECONDS, reachability, runsNowhere } from "./reachability.ts";
import { StaleTarget } from "./targets.ts";
import { untilCertain } from "./untilCertain.ts";

/** A lifecycle operation that somebody asked for. */
export interface Intent {
  readonly id: Uuid;
  readonly op: DispatchOp;
  readonly agentId: Uuid;
  readonly agentSlug: string;
  readonly projectId: Uuid;
  readonly runtimeBrokerId: Uuid;
  readonly args: Readonly<Record<string, unknown>>;
  readonly createdBy?: Uuid;
  readonly traceparent?: string;
  /** Of the target that it was decided on, when that was remembered: it is begun only while the target is like that. */
  readonly stamp?: string;
  /** The replica that held the socket when the target was read. */
  readonly owner?: Uuid;
  /** The replica that accepted it; undefined: this one. */
  readonly acceptedBy?: Uuid;
}

/**
 * How an operation ended as far as its caller is concerned:
 *
 *   done, failed  as the runtime broker answered; `agent`: as the end left it, where it was read with it; `shown`: the
 *                 same as clients are shown it, where another replica read it
 *   expired       withdrawn before anybody began; it never runs
 *   unfinished    begun, and still under way when the caller's time was over
 */
export type Outcome =
  | {
      readonly kind: "done";
      readonly result: Readonly<Record<string, unknown>>;
      readonly agent?: AgentView;
      readonly shown?: Readonly<Record<string, unknown>> | undefined;
    }
  | { readonly kind: "failed"; readonly failure: OperationFailure }
  | { readonly kind: "expired"; readonly reason: string }
  | { readonly kind: "unfinished" };

/** Clients give up at 30 s (spec/01 rule 10): every answer comes well before. */
const ANSWER_WITHIN_MS = 25_000;
/** Without any sign of progress a caller is not kept waiting until then. */
const QUIET_MS = 20_000;

export interface DispatcherDeps {
  readonly database: Database;
  readonly registry: Registry;
  readonly membership: Membership;
  readonly commandBus: CommandBus;
  readonly eventBus: EventBus;
  readonly locks: AgentLocks;
  readonly executor: Executor;
  readonly metrics: Metrics;
  readonly tracing: Tracing;
  /** Undefined where replicas are not called at their internal URLs. */
  readonly haltsAtOwner: HaltsAtOwner | undefined;
  readonly changed: () => void;
  /** After a direct call: what it kept from going on may go on; `more`: something of its agent may wait. */
  readonly ended: (runtimeBrokerId: Uuid, more: boolean) => void;
}

/**
 * Brings lifecycle operations to the runtime broker, whichever replica holds its socket. Each is committed as an intent
 * before it is begun: claimed from the start and run at once where the socket is here and the agent has nothing else to do,
 * else signalled, and waited for. The row is the authority: a caller who gives up withdraws it first, and only then hears
 * an error.
 */
export class Dispatcher implements Service {
  readonly #base: Base;
  readonly #deps: DispatcherDeps;
  readonly #outcomes: Outcomes<DispatchOutcome>;
  #unsubscribe: (() => void)[] = [];

  constructor(base: Base, deps: DispatcherDeps) {
    this.#base = base;
    this.#deps = deps;
    this.#outcomes = new Outcomes(base.clock, base.log, (ids) => dispatchOutcomes(deps.database.db, ids));
  }

  async start(): Promise<void> {
    if (this.#unsubscribe.length > 0) return;
    const { commandBus } = this.#deps;
    this.#unsubscribe = [
      commandBus.onDone((ids) => this.#outcomes.look(ids)),
      commandBus.onLookAtEverything(() => this.#outcomes.lookAtEverything()),
    ];
  }

  async stop(): Promise<void> {
    for (const off of this.#unsubscribe) off();
    this.#unsubscribe = [];
  }

  /**
   * Refuses an operation that nobody would carry out within the grace. Throws 503 `runtime_broker_unavailable`, or
   * 422 `no_runtime_broker` for an agent without one.
   */
  requireReachable(target: DispatchTarget): NonNullable<DispatchTarget["runtimeBroker"]> {
    const { runtimeBroker, agent } = target;
    if (!runtimeBroker) throw runsNowhere(agent);
    if (reachability(runtimeBroker) === "away" && !this.#deps.registry.get(runtimeBroker.id))
      throw new HubError("runtime_broker_unavailable", `runtime broker ${runtimeBroker.name} is not connected`, {
        details: { requestedBrokerId: runtimeBroker.id, availableBrokers: null },
        retryAfter: 30,
      });
    return runtimeBroker;
  }

  /**
   * Runs an operation to its end, or as far as the caller's time goes. Takes the short way when the socket is here. Throws
   * {@link StaleTarget}, with nothing begun, when the intent carries a stamp and its target is no longer like that.
   */
  async run(intent: Intent): Promise<Outcome> {
    const started = this.#base.clock.elapsed();
    const direct = await this.#direct(intent);
    if (direct?.kind === "unfinished") return direct;
    if (direct && direct.kind !== "lost") return this.#count(intent, "local", started, direct);
    const there = direct ? undefined : await this.#atOwner(intent);
    if (there) return this.#count(intent, "peer", started, there);
    // Opened before there is anything to hear of: nothing has to be read to find out what was missed.
    const wait = this.#open(intent.id);
    try {
      await untilCertain(this.#base, () => this.begin(this.#deps.database.db, intent));
      this.begun(intent);
      return this.#count(intent, "forward", started, await this.#finish(intent, started, wait));
    } finally {
      wait.close();
    }
  }

  /** Commits the intent in the caller's transaction. Call {@link begun} after it has committed. Throws as {@link run} does. */
  async begin(db: Db, intent: Intent): Promise<void> {
    const accepted = await this.#committing(intent, (dispatch) => insertDispatch(db, dispatch));
    if (!accepted) throw new StaleTarget();
  }

  /**
   * Runs the insert of an intent in a span, below which its execution goes on, on whichever replica. Throws 404 when what
   * it is about is gone.
   */
  async #committing<T>(intent: Intent, insert: (dispatch: NewDispatch) => Promise<T>): Promise<T> {
    const { tracing, membership } = this.#deps;
    const span = tracing.begin(`commit ${intent.op}`, "producer", intent.traceparent, {
      "rootstock.dispatch_id": intent.id,
      "rootstock.agent_id": intent.agentId,
      "rootstock.runtime_broker_id": intent.runtimeBrokerId,
    });
    const { traceparent } = span;
    const acceptedBy = intent.acceptedBy ?? membership.instanceId;
    try {
      const inserted = await insert({
        ...intent,
        traceparent,
        acceptedBy,
        deadlineSeconds: RECONNECT_GRACE_SECONDS,
      });
      span.end();
      return inserted;
    } catch (err) {
      span.end("not committed");
      if (!isForeignKeyViolation(err)) throw err;
      throw new HubError("not_found", "the agent or its runtime broker was deleted meanwhile", { cause: err });
    }
  }

  /** Tells whoever holds the socket. */
  begun(intent: Intent): void {
    this.#base.log.info({ dispatchId: intent.id, op: intent.op, agentId: intent.agentId }, "dispatch committed");
    this.#deps.changed();
    this.#deps.commandBus.wakeFor(intentAt(intent.runtimeBrokerId));
  }

  /**
   * Waits for a committed intent. May be called for the same intent by several callers, on several replicas: whoever
   * repeats a call after a crash gets the same end.
   */
  async finish(
    intent: Pick<Intent, "id" | "agentId" | "op" | "args">,
    started: number = this.#base.clock.elapsed(),
  ): Promise<Outcome> {
    const wait = this.#open(intent.id);
    this.#outcomes.look([intent.id]);
    return this.#finish(intent, started, wait);
  }

  #open(id: Uuid): OutcomeWait<DispatchOutcome> {
    return this.#outcomes.open(id, (row) => !["pending", "in_progress"].includes(row.state));
  }

  async #finish(
    intent: Pick<Intent, "id" | "agentId" | "op" | "args">,
    started: number,
    wait: OutcomeWait<DispatchOutcome>,
  ): Promise<Outcome> {
    const left = Math.max(0, ANSWER_WITHIN_MS - (this.#base.clock.elapsed() - started));
    const { eventBus } = this.#deps;
    // Only while somebody waits: events that nobody wants are not made.
    const offStatus = eventBus.subscribe([`agent.${intent.agentId}.status`], () => wait.progressed());
    // What waits for an agent is over with it.
    const offDeleted = eventBus.subscribe([`agent.${intent.agentId}.deleted`], () => this.#outcomes.look([intent.id]));
    try {
      const row = await wait.wait(Math.min(QUIET_MS, left), left);
      return row ? readRow(row) : await this.#giveUp(intent);
    } finally {
      offStatus();
      offDeleted();
    }
  }

  /** Withdraws an intent of which nothing was sent, together with the record that only it was for. */
  async #giveUp(intent: Pick<Intent, "id" | "agentId" | "op" | "args">): Promise<Outcome> {
    const reason = "the runtime broker did not take it up in time";
    const { database, changed } = this.#deps;
    const withdraw = () =>
      transaction(database.db, async (tx) => {
        if (!(await withdrawDispatch(tx, intent.id, reason))) return false;
        if (intent.op === "create" && intent.args.fresh === true) await deleteAgentRows(tx, [intent.agentId]);
        return true;
      });
    if (await untilCertain(this.#base, withdraw, { begun: true })) {
      changed();
      return { kind: "expired", reason };
    }
    const [row] = await untilCertain(this.#base, () => dispatchOutcomes(database.db, [intent.id]), { begun: true });
    return row ? readRow(row) : { kind: "expired", reason };
  }

  /** The way through the replica that holds the socket. Undefined: the row is to be waited for. */
  async #atOwner(intent: Intent): Promise<HaltReply | undefined> {
    const { haltsAtOwner, membership } = this.#deps;
    const { op, owner, args: _, ...names } = intent;
    if (!haltsAtOwner || !owner || owner === membership.instanceId || !isHalt(op)) return undefined;
    return haltsAtOwner.halt(owner, { ...names, op, acceptedBy: membership.instanceId, actor: currentActor() });
  }

  /**
   * Halts an agent for another replica, over a socket that this one holds. Undefined when nothing was begun here, or
   * nobody knows how it ended: the caller waits for the row.
   */
  async haltHere(request: HaltRequest): Promise<Extract<Outcome, { readonly kind: "done" | "failed" }> | undefined> {
    const { createdBy, traceparent, stamp, actor, ...names } = request;
    const intent: Intent = {
      ...names,
      args: {},
      ...(createdBy && { createdBy }),
      ...(traceparent && { traceparent }),
      ...(stamp && { stamp }),
    };
    const asker = () => actor ?? askerOf({ createdBy: createdBy ?? null, dispatchId: request.id });
    const run = actingAs(asker, () => this.#direct(intent));
    const outcome = await this.#within(run, OWNER_ANSWERS_WITHIN_MS / 2);
    // A container that takes its time is not to look like an owner that does not answer.
    if (outcome?.kind === "unfinished") {
      const tell = () => this.#deps.commandBus.done([request.id]);
      run.then(tell, tell);
    }
    return outcome?.kind === "done" || outcome?.kind === "failed" ? outcome : undefined;
  }

  /** The short way: undefined when it is not open. What would have to wait its turn here waits as a row. */
  async #direct(intent: Intent): Promise<JobOutcome | { readonly kind: "unfinished" } | undefined> {
    const { registry, membership, locks, executor } = this.#deps;
    const { agentId, runtimeBrokerId } = intent;
    if (!registry.get(runtimeBrokerId) || !membership.mayClaim() || locks.isBusy(agentId)) return undefined;
    const run = locks.lifecycle(agentId, async (): Promise<JobOutcome | undefined> => {
      const connection = registry.get(runtimeBrokerId);
      if (!connection?.isOpen) return undefined;
      const begun = await this.#beginHere(intent, connection.sessionId);
      return begun && executor.run({ ...intent, attempt: 1, traceparent: begun.traceparent }, connection);
    });
    void run.then(
      (outcome) => this.#deps.ended(runtimeBrokerId, !(outcome && "more" in outcome) || outcome.more),
      () => {},
    );
    run.catch((err: unknown) => {
      if (!(err instanceof HubError)) this.#base.log.error({ err }, "dispatch failed after its answer");
    });
    return this.#within(run, ANSWER_WITHIN_MS);
  }

  /**
   * Commits an intent that is claimed from the start. Undefined when it is not certain that it is: then it is waited
   * for.
   */
  async #beginHere(intent: Intent, sessionId: Uuid): Promise<NewDispatch | undefined> {
    const { database, membership } = this.#deps;
    const claim = { instanceId: membership.instanceId, sessionId };
    try {
      return await this.#committing(intent, async (dispatch) =>
        (await insertClaimedDispatch(database.db, { dispatch, claim })) ? dispatch : undefined,
      );
    } catch (err) {
      if (isInDoubt(err)) return undefined;
      throw err;
    }
  }

  /** The work goes on when the caller's time is over; only the answer comes. */
  async #within<T>(run: Promise<T>, ms: number): Promise<T | { readonly kind: "unfinished" }> {
    const timer = { cancel: () => {} };
    const over = new Promise<{ readonly kind: "unfinished" }>((resolve) => {
      timer.cancel = this.#base.clock.after(ms, () => resolve({ kind: "unfinished" })).cancel;
    });
    run.catch(() => {});
    try {
      return await Promise.race([run, over]);
    } finally {
      timer.cancel();
    }
  }

  #count(intent: Intent, way: string, started: number, outcome: Outcome): Outcome {
    const { metrics } = this.#deps;
    if (way === "local") metrics.dispatches.inc({ op: intent.op, way, outcome: outcome.kind });
    metrics.dispatchSeconds.observe(
      { op: intent.op, way: `${way} call` },
      (this.#base.clock.elapsed() - started) / 1000,
    );
    return outcome;
  }
}

const failedResult = z.object({ failure: storedFailure });

/** What a row says. A failure without particulars is one that a sweep wrote. */
const readRow = (row: DispatchOutcome): Outcome => {
  switch (row.state) {
    case "done":
      return { kind: "done", result: row.result ?? {}, ...(row.agent && { agent: row.agent }) };
    case "failed": {
      const message = row.error ?? "the operation failed";
      return {
        kind: "failed",
        failure: failedResult.safeParse(row.result).data?.failure ?? { code: "runtime_error", message },
      };
    }
    case "expired":
      return { kind: "expired", reason: row.error ?? "the runtime broker did not take it up in time" };
    default:
      return { kind: "unfinished" };
  }
};
