import type { Uuid } from "@rootstock/protocol";
import { type RawBuilder, sql } from "kysely";
import type { Db } from "../database.ts";
import { statement } from "../statement.ts";
import { type ClaimScope, heldSockets, uuids } from "./heldSockets.ts";
import { inFlight, isState, listens, undisturbed } from "./messageConditions.ts";

/** Messages as they are claimed by the replica that holds the socket: pending → delivering, the first of each agent. */

/** A claimed message with what its way to the agent needs, and no more: claims are made by the thousand. */
export interface ClaimedMessage {
  readonly id: Uuid;
  readonly agentId: Uuid;
  readonly agentSlug: string;
  readonly projectId: Uuid;
  readonly runtimeBrokerId: Uuid;
  readonly sessionId: Uuid;
  readonly msg: string;
  readonly envelope: Readonly<Record<string, unknown>>;
  readonly interrupt: boolean;
  /** This one included. */
  readonly attempts: number;
  readonly traceparent: string | null;
}

/**
 * A claim need not be on disk when it is answered. One that a crash of the database forgets is a message that is pending
 * again while its socket lives: whoever has it on the wire takes it back, and otherwise it goes once more under its id.
 */
const relaxed = sql`relaxed as materialized (select set_config('synchronous_commit', 'off', true) as done)`;

/**
 * The parts `locked` and `claimed` of a claim of the messages that `next(id, session, runtime_broker, slug)` names. Not
 * SKIP LOCKED: skipping a locked message would let a later one overtake it.
 */
const claimNext = (instanceId: RawBuilder<Uuid>) => sql`
    locked as materialized (
      select m.id, next.session, next.runtime_broker, next.slug from next join messages m on m.id = next.id
       where ${isState("pending")} order by m.id for update of m
    ), claimed as (
      update messages m set state = 'delivering', claimed_by = ${instanceId}, claim_session = locked.session,
          claimed_at = now(), runtime_broker_id = locked.runtime_broker, attempts = m.attempts + 1
        from locked, relaxed where m.id = locked.id
      returning m.id, m.agent_id as "agentId", locked.slug as "agentSlug", m.project_id as "projectId",
        m.runtime_broker_id as "runtimeBrokerId", m.claim_session as "sessionId", m.msg, m.envelope, m.interrupt,
        m.attempts, m.traceparent
    )`;

/** The first message of the agent `a` that waits, as `head`. */
const headOfAgent = sql`
  (select m.id, m.seq from messages m where m.agent_id = a.id and m.state = 'pending' order by m.seq limit 1) as head`;

const claimingAny = statement<ClaimScope, ClaimedMessage>(
  (given) => sql`
    with ${heldSockets(given)}, ${relaxed}, next as materialized (
      select ranked.id, held.session, held.id as runtime_broker, ranked.slug from held
       cross join lateral (
         select a.head as id, a.slug from (
           select a.id, a.slug, head.id as head, head.seq from agents a cross join lateral ${headOfAgent}
            where a.runtime_broker_id = held.id and ${listens} and a.id <> all(${uuids(given, (p) => p.busyAgents)})
            offset 0) as a
          where not ${inFlight} and ${undisturbed}
          order by a.seq limit held.slots) as ranked
    ), ${claimNext(given((p) => p.instanceId))}
    select * from claimed`,
);

/**
 * Claims, for each agent that listens and has none in flight, its first pending message: at most `slots` for each
 * socket held. Where a message was committed late, before one that is in flight, the unique index refuses the claim,
 * and the caller looks again.
 */
export const claimMessages = async (db: Db, p: ClaimScope): Promise<ClaimedMessage[]> =>
  (await claimingAny(db, p)).rows;

/** An agent for which a message is said to wait, and where it is said to run. */
export interface AgentAt {
  readonly agentId: Uuid;
  readonly runtimeBrokerId: Uuid;
}

interface WokenScope extends ClaimScope {
  readonly agents: readonly AgentAt[];
}

const claimingWoken = statement<WokenScope, ClaimedMessage>(
  (given) => sql`
    with ${heldSockets(given)}, ${relaxed}, next as materialized (
      select waiting.id, held.session, held.id as runtime_broker, waiting.slug
        from unnest(${uuids(given, (p) => p.agents.map((a) => a.agentId))},
            ${uuids(given, (p) => p.agents.map((a) => a.runtimeBrokerId))}) as woken(agent, runtime_broker)
        join held on held.id = woken.runtime_broker
       -- "offset 0" keeps this a look-up per agent, whatever the planner knows of the tables.
       cross join lateral (
         select head.id, a.slug from (select * from agents where id = woken.agent offset 0) as a
          cross join lateral ${headOfAgent}
          where a.runtime_broker_id = held.id and ${listens} and a.id <> all(${uuids(given, (p) => p.busyAgents)})
            and not ${inFlight} and ${undisturbed} offset 0) as waiting
    ), ${claimNext(given((p) => p.instanceId))}
    select * from claimed`,
);

/**
 * As `claimMessages`, of these agents alone: what was signalled costs no look at all the others of the runtime broker.
 * The caller names no more agents of a runtime broker than its socket takes.
 */
export const claimMessagesOf = async (db: Db, p: WokenScope): Promise<ClaimedMessage[]> =>
  (await claimingWoken(db, p)).rows;
