import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import { actorText, audited, tellingActor } from "../audit.ts";
import type { Db } from "../database.ts";
import { type Given, statement } from "../statement.ts";
import type { DispatchOp } from "../tables.ts";
import { isUnchanged, withStamp } from "./dispatchTargets.ts";
import type { Claim } from "./heldSockets.ts";

/** Lifecycle intents as they are accepted: pending, or already claimed for a socket that is held here. */

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
  readonly createdBy?: Uuid;
  readonly traceparent?: string | undefined;
  /** The replica that took the call. */
  readonly acceptedBy: Uuid;
  /**
   * The stamp of the target on which the operation was decided: when that has changed meanwhile, nothing is inserted.
   * Undefined: decided on what was read for it.
   */
  readonly stamp?: string;
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

/** Whether the agent is what it was when the operation was decided on. "offset 0": by its id, however many agents run. */
const unchanged = (given: Given<NewDispatch>) => {
  const stamp = sql`${given((d) => d.stamp ?? null)}::bigint`;
  const agent = sql`(select * from agents where id = ${given((d) => d.agentId)} offset 0)`;
  return sql<boolean>`(case when ${stamp} is null then true
    else exists (select from ${withStamp(agent)} where ${isUnchanged(stamp)}) end)`;
};

const COLUMNS = sql.raw(
  "id, runtime_broker_id, agent_id, agent_slug, project_id, op, args, max_attempts, deadline_at, created_by, traceparent, accepted_by",
);
const valuesOf = (
  given: Given<NewDispatch>,
) => sql`${given((d) => d.id)}::uuid, ${given((d) => d.runtimeBrokerId)}::uuid,
  ${given((d) => d.agentId)}::uuid, ${given((d) => d.agentSlug)}, ${given((d) => d.projectId)}::uuid, ${given((d) => d.op)},
  ${given((d) => JSON.stringify(d.args))}::jsonb, ${given((d) => maxAttempts(d.op))}::int,
  now() + make_interval(secs => ${given((d) => d.deadlineSeconds)}), ${given((d) => d.createdBy ?? null)}::uuid,
  ${given((d) => d.traceparent ?? null)}, ${given((d) => d.acceptedBy)}::uuid`;

/** Who acts is told to the triggers that record it. */
type Asked<D> = D & { readonly actor: string | null };

const inserting = statement<Asked<NewDispatch>, { readonly accepted: boolean }>(
  (given) => sql`
    with ${tellingActor(given((d) => d.actor))},
      there as materialized (select from actor where ${unchanged(given)}),
      stored as (
        insert into broker_dispatch (${COLUMNS}, hold_reason)
        select ${valuesOf(given)}, ${holdReason(given)} from there
        on conflict (id) do nothing)
    select exists (select from there)
        or exists (select from broker_dispatch d where d.id = ${given((d) => d.id)}) as accepted`,
);

/**
 * Commits what must happen. Repeated, it changes nothing. False, with nothing committed, when it carries a stamp and the
 * agent is not like that any more.
 */
export const insertDispatch = (db: Db, d: NewDispatch): Promise<boolean> =>
  auditedIfDelete(db, d, async (tx) => (await inserting(tx, { ...d, actor: actorText() })).rows[0]?.accepted === true);

/** The end of an agent is recorded with more than its intent's row. */
const auditedIfDelete = <T>(db: Db, d: Pick<NewDispatch, "op">, work: (db: Db) => Promise<T>): Promise<T> =>
  d.op === "delete" ? audited(db, work) : work(db);

const insertingClaimed = statement<Asked<NewDispatch & { readonly claim: Claim }>, unknown>((given) => {
  const [instanceId, sessionId] = [given((p) => p.claim.instanceId), given((p) => p.claim.sessionId)];
  return sql`
    with ${tellingActor(given((d) => d.actor))}, fence as materialized (
      select 1 from runtime_brokers where id = ${given((d) => d.runtimeBrokerId)} and connected_hub_id = ${instanceId}
        and connected_session_id = ${sessionId} for share
    )
    insert into broker_dispatch (${COLUMNS}, state, claimed_by, claim_session, attempts, claimed_at)
    select ${valuesOf(given)}, 'in_progress', ${instanceId}::uuid, ${sessionId}::uuid, 1, now()
      from fence cross join actor
     where not exists (select from broker_dispatch o where o.agent_id = ${given((d) => d.agentId)}
       and o.state in ('pending', 'in_progress')) and ${unchanged(given)}
    on conflict (id) do nothing`;
});

/**
 * Commits what must happen, already claimed for the socket that this replica holds. False when the socket is not the
 * runtime broker's own any more, something of the agent is unfinished, it is there already, or the agent is not what its
 * stamp says: then it goes the common way, as pending.
 */
export const insertClaimedDispatch = (
  db: Db,
  { dispatch, claim }: { readonly dispatch: NewDispatch; readonly claim: Claim },
): Promise<boolean> =>
  auditedIfDelete(db, dispatch, async (tx) => {
    const { numAffectedRows } = await insertingClaimed(tx, { ...dispatch, claim, actor: actorText() });
    return numAffectedRows === 1n;
  });
