import type { Uuid } from "@rootstock/protocol";
import { Backoff, type Base, type Log, plainLog } from "@rootstock/service";
import {
  type AgentView,
  type Claim,
  type CompletedHalt,
  completeDispatch,
  completeHalt,
  type Database,
  type DispatchOp,
  failDispatch,
  isDatabaseUnavailable,
  releaseDispatch,
  targetById,
  transaction,
} from "@rootstock/store";
import { type Connection, TunnelError } from "../control/index.ts";
import type { Metrics } from "../metrics/index.ts";
import type { Tracing } from "../telemetry/index.ts";
import {
  gone,
  HALTS,
  isHalt,
  OPERATIONS,
  type OperationDeps,
  type OperationFailure,
  type OperationResult,
} from "./operations/index.ts";

/** One operation to run over a socket that this replica holds. */
export interface Job {
  readonly id: Uuid;
  readonly op: DispatchOp;
  readonly agentId: Uuid;
  readonly agentSlug: string;
  /** Null when the project is gone. */
  readonly projectId: Uuid | null;
  readonly args: Readonly<Record<string, unknown>>;
  readonly attempt: number;
  readonly traceparent?: string | null | undefined;
}

/**
 * How a job ended here, and whether more may wait for its agent. `lost`: the socket went, or another replica owns it now;
 * whoever claims it next goes on.
 */
export type JobOutcome =
  | {
      readonly kind: "done";
      readonly result: Readonly<Record<string, unknown>>;
      readonly more: boolean;
      /** As the end left it, where it was told with that. */
      readonly agent?: AgentView;
    }
  | { readonly kind: "failed"; readonly failure: OperationFailure; readonly more: boolean }
  | { readonly kind: "lost"; readonly reason: string };

export interface ExecutorDeps extends OperationDeps {
  readonly database: Database;
  readonly metrics: Metrics;
  readonly tracing: Tracing;
  /** After a commit that changed what others may see. */
  readonly changed: () => void;
}

/** Runs operations and writes down how they ended, fenced by the socket over which they went. */
export class Executor {
  readonly #base: Base;
  readonly #deps: ExecutorDeps;
  /** For the line of each end, which the caller waits for. */
  readonly #endLog: Log;
  readonly #stopping = new AbortController();

  constructor(base: Base, deps: ExecutorDeps) {
    this.#base = base;
    this.#deps = deps;
    this.#endLog = plainLog(base.log);
  }

  /** Ends the retries of what could not be written. */
  stop(): void {
    this.#stopping.abort();
  }

  /** Runs it to its end at the runtime broker, in a span of its own. */
  async run(job: Job, connection: Connection): Promise<JobOutcome> {
    const { tracing } = this.#deps;
    const span = tracing.begin(`dispatch ${job.op}`, "consumer", job.traceparent, {
      "rootstock.dispatch_id": job.id,
      "rootstock.agent_id": job.agentId,
      "rootstock.runtime_broker_id": connection.runtimeBrokerId,
      "rootstock.attempt": job.attempt,
    });
    try {
      const outcome = await this.#run(job, connection, span.traceparent);
      span.set({ "rootstock.outcome": outcome.kind });
      span.end(outcome.kind === "done" ? undefined : "reason" in outcome ? outcome.reason : outcome.failure.message);
      return outcome;
    } catch (err) {
      span.end("internal error");
      throw err;
    }
  }

  async #run(job: Job, connection: Connection, traceparent: string | undefined): Promise<JobOutcome> {
    const claim: Claim = { instanceId: this.#deps.instanceId, sessionId: connection.sessionId };
    const { log } = this.#base;
    const names = { dispatchId: job.id, op: job.op, agentId: job.agentId, attempt: job.attempt };
    const started = this.#base.clock.elapsed();
    let result: OperationResult;
    try {
      result = await this.#attempt(job, connection, traceparent);
    } catch (err) {
      const sent = !(err instanceof TunnelError && err.kind === "not_sent");
      if (err instanceof TunnelError && err.kind !== "too_large") {
        log.warn({ ...names, err, kind: err.kind }, "dispatch lost its socket");
        await this.#release(job, claim, sent, err.message);
        return { kind: "lost", reason: err.message };
      }
      if (isDatabaseUnavailable(err)) {
        await this.#release(job, claim, sent, "the database was not available");
        return { kind: "lost", reason: "the database was not available" };
      }
      if (!(err instanceof TunnelError)) log.error({ ...names, err }, "dispatch failed unexpectedly");
      result = {
        ok: false,
        failure: {
          code: "runtime_error",
          message: err instanceof TunnelError ? err.message : "internal error while talking to the runtime broker",
        },
        settle: async () => {},
      };
    }
    const settled = await this.#settle(job, claim, result).catch(async (err: unknown) => {
      // It was carried out: whoever goes on with it has to ask before anything is repeated.
      await this.#release(job, claim, true, "its end could not be written down");
      throw err;
    });
    const ms = Math.round(this.#base.clock.elapsed() - started);
    if (!settled) {
      log.warn({ ...names, ms }, "dispatch ended, but its claim has moved on");
      return { kind: "lost", reason: "the runtime broker is connected elsewhere" };
    }
    this.#deps.changed();
    const why = result.ok ? undefined : { failure: result.failure.message };
    this.#endLog.info({ ...names, ok: result.ok, ms, ...why }, "dispatch ended");
    const { more, agent } = settled;
    return result.ok
      ? { kind: "done", result: result.result, more, ...(agent && { agent }) }
      : { kind: "failed", failure: result.failure, more };
  }

  async #attempt(job: Job, connection: Connection, traceparent: string | undefined): Promise<OperationResult> {
    if (isHalt(job.op)) {
      if (!job.projectId) return gone();
      const target = { agent: { id: job.agentId, slug: job.agentSlug }, project: { id: job.projectId } };
      return HALTS[job.op]({ target, connection, traceparent });
    }
    const target = await targetById(this.#deps.db, job.agentId);
    if (!target?.runtimeBroker || (target.agent.deleted_at && job.op !== "delete"))
      return job.op === "delete" ? { ok: true, result: {}, settle: async () => {} } : gone();
    return OPERATIONS[job.op]({
      ...this.#deps,
      id: job.id,
      op: job.op,
      target,
      runtimeBroker: target.runtimeBroker,
      args: job.args,
      attempt: job.attempt,
      connection,
      traceparent,
    });
  }

  /** Writes the end of the job, again and again while the database is away: what a runtime broker did is not forgotten. */
  #settle({ id, agentId }: Job, claim: Claim, result: OperationResult): Promise<CompletedHalt | undefined> {
    const { db } = this.#deps;
    const phase = result.ok ? result.halted : undefined;
    if (phase) return this.persist(() => completeHalt(db, { id, claim, agentId, phase }));
    return this.persist(() =>
      transaction(db, async (tx) => {
        const ended = result.ok
          ? await completeDispatch(tx, { id, claim, result: result.result })
          : await failDispatch(tx, {
              id,
              claim,
              error: result.failure.message,
              result: { failure: result.failure },
            });
        if (!ended) return undefined;
        await result.settle(tx);
        return { more: true, agent: undefined };
      }),
    );
  }

  async #release(job: Job, claim: Claim, sent: boolean, reason: string): Promise<void> {
    if (await this.persist(() => releaseDispatch(this.#deps.db, { id: job.id, claim, sent, reason })))
      this.#deps.changed();
  }

  /** Runs a write until the database takes it. Undefined when this replica stops first. */
  async persist<T>(write: () => Promise<T>): Promise<T | undefined> {
    const backoff = new Backoff({ firstMs: 50, maxMs: 2_000 }, this.#base.random);
    for (;;) {
      try {
        return await this.#deps.database.background(write);
      } catch (err) {
        if (!isDatabaseUnavailable(err)) throw err;
        if (this.#stopping.signal.aborted) return undefined;
        await this.#base.clock.sleep(backoff.next(), this.#stopping.signal);
      }
    }
  }
}
