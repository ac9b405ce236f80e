import type { Uuid } from "@rootstock/protocol";
import { type RawBuilder, type Selectable, sql } from "kysely";
import { audited } from "../audit.ts";
import type { Db } from "../database.ts";
import { type Given, statement } from "../statement.ts";
import type { BrokerDispatchTable, DispatchOp } from "../tables.ts";
import { type Claim, type ClaimScope, heldSockets, uuids } from "./heldSockets.ts";
import { type HaltedPhase, haltedValues } from "./lifecycle.ts";

/**
 * Lifecycle intents (design section 5): pending → in_progress → done | failed, pending → expired. Every claim reads the
 * runtime broker's affinity row FOR SHARE in its own statement, so that it cannot commit beside a newer socket's claim;
 * every settling statement repeats the claim.
 */

export type DispatchRow = Selectable<BrokerDispatchTable>;

export interface NewDispatch {
  readonly id: Uuid;
  readonly runtimeBrokerId: Uuid;
  readonly agentId: Uuid;
  readonly agentSlug: string;
  readonly projectId: Uuid;
  readonly op: DispatchOp;
  readonly args: Readonly<Record<string, unknown>>;
  /** Seconds from now after which a pending intent expires. */
  readonly deadlineSeconds: number;
  /** How often it was tried before it became a row: a call whose socket was lost in the middle counts once. */
  readonly attempts?: number;
  readonly createdBy?: Uuid;
  readonly traceparent?: string | undefined;
  /** The replica that took the call. */
  readonly acceptedBy: Uuid;
}

/** Why an intent cannot be claimed at once, at the moment at which it is committed; null when it can. */
const holdReason = (given: Given<NewDispatch>) => sql<string | null>`(
  select case
      when exists (select from broker_dispatch o where o.agent_id = ${given((d) => d.agentId)}
          and o.state in ('pending', 'in_progress'))
        then 'behind an earlier operation on the agent'
      when rb.connected_hub_id is not null then null
      when rb.disconnected_at is null then 'owner unknown: the runtime broker has not connected yet'
      else 'owner unknown: waiting for reconnect since '
        || to_char(rb.disconnected_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') end
    from runtime_brokers rb where rb.id = ${given((d) => d.runtimeBrokerId)})`;

/** How often an operation is begun before it is given up, unless its deadline comes first. */
const ATTEMPTS = 3;
/**
 * What ends a run is begun again as often as it takes: the end is the same. Given up after it has reached the runtime
 * broker, it leaves an agent that runs as far as anybody knows, and has stopped; what it is sent then is acknowledged and
 * dropped.
 */
const ATTEMPTS_OF_HALTS = 30;
const HALTS: ReadonlySet<DispatchOp> = new Set<DispatchOp>(["stop", "suspend", "restart", "delete"]);

const maxAttempts = (op: DispatchOp): number => (HALTS.has(op) ? ATTEMPTS_OF_HALTS : ATTEMPTS);

const inserting = statement<NewDispatch, unknown>(
  (given) => sql`
    insert into broker_dispatch (id, runtime_broker_id, agent_id, agent_slug, project_id, op, args, attempts, max_attempts,
        deadline_at, created_by, traceparent, accepted_by, hold_reason)
    values (${given((d) => d.id)}, ${given((d) => d.runtimeBrokerId)}, ${given((d) => d.agentId)},
        ${given((d) => d.agentSlug)}, ${given((d) => d.projectId)}, ${given((d) => d.op)},
        ${given((d) => JSON.stringify(d.args))}, ${given((d) => d.attempts ?? 0)}, ${given((d) => maxAttempts(d.op))},
        now() + make_interval(secs => ${given((d) => d.deadlineSeconds)}), ${given((d) => d.createdBy ?? null)},
        ${given((d) => d.traceparent ?? null)}, ${given((d) => d.acceptedBy)}, ${holdReason(given)})
    on conflict (id) do nothing`,
);

/** Commits what must happen. Repeated, it changes nothing. */
export const insertDispatch = (db: Db, d: NewDispatch): Promise<void> =>
  auditedIfDelete(db, d, async (tx) => {
    await inserting(tx, d);
  });

/** Of operations only the end of an agent is audited: it may be carried out elsewhere, when nobody knows who asked. */
const auditedIfDelete = <T>(db: Db, d: Pick<NewDispatch, "op">, work: (db: Db) => Promise<T>): Promise<T> =>
  d.op === "delete" ? audited(db, work) : work(db);

/**
 * Commits what must happen, already claimed for the socket that this replica holds. False when the socket is not the
 * runtime broker's own any more, or something of the agent is unfinished: then it goes the common way, as pending.
 */
export const insertClaimedDispatch = (
  db: Db,
  p: { readonly dispatch: NewDispatch; readonly claim: Claim },
): Promise<boolean> =>
  auditedIfDelete(db, p.dispatch, async (tx) => {
    const { dispatch: d, claim } = p;
    const { numAffectedRows } = await sql`
    with fence as materialized (
      select 1 from runtime_brokers where id = ${d.runtimeBrokerId} and connected_hub_id = ${claim.instanceId}
        and connected_session_id = ${claim.sessionId} for share
    )
    insert into broker_dispatch (id, runtime_broker_id, agent_id, agent_slug, project_id, op, args, state, claimed_by,
        claim_session, attempts, max_attempts, deadline_at, created_by, traceparent, accepted_by, claimed_at)
    select ${d.id}::uuid, ${d.runtimeBrokerId}::uuid, ${d.agentId}::uuid, ${d.agentSlug}, ${d.projectId}::uuid, ${d.op},
        ${JSON.stringify(d.args)}::jsonb, 'in_progress', ${claim.instanceId}::uuid, ${claim.sessionId}::uuid, 1,
        ${maxAttempts(d.op)}::int, now() + make_interval(secs => ${d.deadlineSeconds}), ${d.createdBy ?? null}::uuid, ${d.traceparent ?? null},
        ${d.acceptedBy}::uuid, now()
      from fence
     where not exists (select from broker_dispatch o where o.agent_id = ${d.agentId}
       and o.state in ('pending', 'in_progress'))`.execute(tx);
    return numAffectedRows === 1n;
  });

const claiming = statement<ClaimScope, DispatchRow>(
  (given) => sql`
    with ${heldSockets(given)}, next as materialized (
      select d.id, held.session from held
       cross join lateral (
         select d.id from broker_dispatch d
          where d.runtime_broker_id = held.id and d.state = 'pending' and d.deadline_at > now()
            and d.agent_id <> all(${uuids(given, (p) => p.busyAgents)})
            and (select true from broker_dispatch e where e.agent_id = d.agent_id
              and e.state in ('pending', 'in_progress') and e.seq < d.seq limit 1) is null
          order by d.seq limit held.slots) as first
        join broker_dispatch d on d.id = first.id
       where coalesce(d.state, '') = 'pending'
       order by d.id for update of d skip locked
    )
    update broker_dispatch d set state = 'in_progress', claimed_by = ${given((p) => p.instanceId)},
        claim_session = next.session, attempts = d.attempts + 1, claimed_at = now(), updated_at = now()
      from next where d.id = next.id
    returning d.*`,
);

/**
 * Claims the oldest pending intents of the sockets held, at most `slots` for each, one per agent, and never beside an
 * unfinished one of the same agent. `busyAgents` are those with a direct call under way on this replica.
 */
export const claimDispatches = async (db: Db, p: ClaimScope): Promise<DispatchRow[]> => (await claiming(db, p)).rows;

/** A claim, or its values in a statement. */
interface ClaimValues {
  readonly instanceId: Uuid | RawBuilder<Uuid>;
  readonly sessionId: Uuid | RawBuilder<Uuid>;
}

/**
 * The condition under which a result counts: the claim still stands, or it was taken back (this replica was thought
 * dead) while the very socket that has the answer is still the runtime broker's own.
 */
const stillOurs = (claim: ClaimValues) => sql<boolean>`(
    (d.state = 'in_progress' and d.claimed_by = ${claim.instanceId} and d.claim_session = ${claim.sessionId})
    or (d.state = 'pending' and exists (select from runtime_brokers rb where rb.id = d.runtime_broker_id
        and rb.connected_hub_id = ${claim.instanceId} and rb.connected_session_id = ${claim.sessionId} for share)))`;

/** Marks an intent done. False when the claim has moved on: then nothing of the result counts. */
export const completeDispatch = async (
  db: Db,
  p: { readonly id: Uuid; readonly claim: Claim; readonly result: Readonly<Record<string, unknown>> },
): Promise<boolean> => {
  const { numAffectedRows } = await sql`
    update broker_dispatch d set state = 'done', result = ${JSON.stringify(p.result)}::jsonb, error = null,
        claimed_by = ${p.claim.instanceId}, claim_session = ${p.claim.sessionId}, updated_at = now()
     where d.id = ${p.id} and ${stillOurs(p.claim)}`.execute(db);
  return numAffectedRows === 1n;
};

interface EndedHalt {
  readonly id: Uuid;
  readonly claim: Claim;
  readonly agentId: Uuid;
  readonly phase: HaltedPhase;
}

/** That an intent has been marked, and whether another of its agent waits. */
export interface CompletedHalt {
  readonly more: boolean;
}

const completingHalt = statement<EndedHalt, CompletedHalt>((given) => {
  const claim = { instanceId: given((p) => p.claim.instanceId), sessionId: given((p) => p.claim.sessionId) };
  return sql`
    with ended as (
      update broker_dispatch d set state = 'done', result = '{}', error = null,
          claimed_by = ${claim.instanceId}, claim_session = ${claim.sessionId}, updated_at = now()
       where d.id = ${given((p) => p.id)} and ${stillOurs(claim)} returning d.id),
    halted as (
      update agents set ${haltedValues(given((p) => p.phase))}
       where id = ${given((p) => p.agentId)} and exists (select from ended))
    select (select true from broker_dispatch o where o.agent_id = ${given((p) => p.agentId)} and o.id <> ended.id
        and o.state in ('pending', 'in_progress') limit 1) is not null as more from ended`;
});

/**
 * Marks an intent done that ended its agent's run, and the agent with it, in one statement. Undefined when the claim has
 * moved on.
 */
export const completeHalt = async (db: Db, p: EndedHalt): Promise<CompletedHalt | undefined> =>
  (await completingHalt(db, p)).rows[0];

/** Marks an intent failed for good, with what the caller is told. False when the claim has moved on. */
export const failDispatch = async (
  db: Db,
  p: {
    readonly id: Uuid;
    readonly claim: Claim;
    readonly error: string;
    readonly result: Readonly<Record<string, unknown>>;
  },
): Promise<boolean> => {
  const { numAffectedRows } = await sql`
    update broker_dispatch d set state = 'failed', result = ${JSON.stringify(p.result)}::jsonb, error = ${p.error},
        claimed_by = ${p.claim.instanceId}, claim_session = ${p.claim.sessionId}, updated_at = now()
     where d.id = ${p.id} and ${stillOurs(p.claim)}`.execute(db);
  return numAffectedRows === 1n;
};

/**
 * Gives an intent back after its socket was lost: pending again while attempts are left, else failed. `sent: false`
 * takes the attempt back too, because nothing of it left this replica.
 */
export const releaseDispatch = async (
  db: Db,
  p: { readonly id: Uuid; readonly claim: Claim; readonly sent: boolean; readonly reason: string },
): Promise<void> => {
  await sql`
    update broker_dispatch d set
        state = case when ${p.sent} and d.attempts >= d.max_attempts then 'failed' else 'pending' end,
        attempts = d.attempts - case when ${p.sent} then 0 else 1 end,
        error = ${p.reason}, hold_reason = ${p.reason}, claimed_by = null, claim_session = null, updated_at = now()
     where d.id = ${p.id} and d.state = 'in_progress'
       and d.claimed_by = ${p.claim.instanceId} and d.claim_session = ${p.claim.sessionId}`.execute(db);
};

/** An operation that ran over a socket of the replica that took the call, and is over. */
export interface EndedDispatch {
  readonly dispatch: Omit<NewDispatch, "deadlineSeconds" | "attempts">;
  readonly claim: Claim;
  readonly state: "done" | "failed";
  readonly error: string | null;
  readonly result: Readonly<Record<string, unknown>>;
  /** How long it took, in milliseconds. */
  readonly tookMs: number;
}

/**
 * Records a direct call that is over. False, and nothing is recorded, when the socket is not the runtime broker's own any
 * more: nobody else may take the runtime broker until the transaction ends, so this is the fence of what the call
 * writes. Repeated, it changes nothing.
 */
export const insertEndedDispatch = (db: Db, p: EndedDispatch): Promise<boolean> =>
  auditedIfDelete(db, p.dispatch, async (tx) => {
    const { dispatch: d, claim } = p;
    const began = sql`now() - ${p.tookMs}::float8 * interval '1 millisecond'`;
    const { rows } = await sql`
    with fence as materialized (
      select 1 from runtime_brokers where id = ${d.runtimeBrokerId} and connected_hub_id = ${claim.instanceId}
        and connected_session_id = ${claim.sessionId} for share
    ), recorded as (
      insert into broker_dispatch (id, runtime_broker_id, agent_id, agent_slug, project_id, op, args, state, result, error,
          claimed_by, claim_session, attempts, deadline_at, created_by, traceparent, accepted_by, created_at, claimed_at)
      select ${d.id}::uuid, ${d.runtimeBrokerId}::uuid, (select a.id from agents a where a.id = ${d.agentId} for key share),
          ${d.agentSlug}, ${d.projectId}::uuid, ${d.op}, ${JSON.stringify(d.args)}::jsonb, ${p.state},
          ${JSON.stringify(p.result)}::jsonb, ${p.error}, ${claim.instanceId}::uuid, ${claim.sessionId}::uuid, 1, now(),
          ${d.createdBy ?? null}::uuid, ${d.traceparent ?? null}, ${d.acceptedBy}::uuid, ${began}, ${began}
        from fence
      on conflict (id) do nothing)
    select from fence`.execute(tx);
    return rows.length === 1;
  });

/** Withdraws an intent that nobody has claimed yet: what is answered as failed never runs later. */
export const withdrawDispatch = async (db: Db, id: Uuid, reason: string): Promise<boolean> => {
  const result = await db
    .updateTable("broker_dispatch")
    .set({ state: "expired", error: reason, updated_at: sql<Date>`now()` })
    .where("id", "=", id)
    .where("state", "=", "pending")
    .executeTakeFirst();
  return result.numUpdatedRows === 1n;
};

/** Whether an intent of the agent is pending or under way. */
export const hasUnfinishedDispatch = async (db: Db, agentId: Uuid): Promise<boolean> => {
  const row = await db
    .selectFrom("broker_dispatch")
    .select("id")
    .where("agent_id", "=", agentId)
    .where("state", "in", ["pending", "in_progress"])
    .limit(1)
    .executeTakeFirst();
  return row !== undefined;
};

/**
 * Runtime brokers whose socket this replica holds and for which something waits: the fallback of every lost signal.
 * Driven from the held rows by index, so that the pending work of absent runtime brokers costs nothing: told as `exists`,
 * all that is pending anywhere may be gathered into a hash first.
 */
export const runtimeBrokersWithWork = async (db: Db, instanceId: Uuid): Promise<Uuid[]> => {
  const { rows } = await sql<{ id: Uuid }>`
    select rb.id from runtime_brokers rb
     where rb.connected_hub_id = ${instanceId}
       and ((select true from broker_dispatch d where d.runtime_broker_id = rb.id and d.state = 'pending' limit 1)
         or (select true from messages m where m.runtime_broker_id = rb.id and m.state = 'pending' limit 1))
  `.execute(db);
  return rows.map((r) => r.id);
};
