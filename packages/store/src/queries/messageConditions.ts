import type { Uuid } from "@rootstock/protocol";
import { type RawBuilder, type Selectable, sql } from "kysely";
import type { Given } from "../statement.ts";
import type { MessageState, MessagesTable } from "../tables.ts";
import { uuids } from "./heldSockets.ts";

/**
 * What the statements about messages on their way to agents share (design section 5): pending → delivering → delivered |
 * failed. One message of an agent is in flight at a time (a unique index says so); order is `seq`.
 */

export type MessageRow = Selectable<MessagesTable>;

/** How long after `running` an agent that has reported nothing is taken to listen. */
export const LISTENS_AFTER_SECONDS = 15;

/** Whether the agent `a` takes messages now: it runs, and has reported an activity since its start, or long enough ago. */
export const listens = sql<boolean>`(a.phase = 'running' and a.deleted_at is null
  and (a.ready_at is not null or a.running_since is null
    or a.running_since <= now() - make_interval(secs => ${sql.lit(LISTENS_AFTER_SECONDS)})))`;

/*
 * How the questions below are put matters. A plan is kept for long, perhaps since the tables were empty, and to the
 * planner a partial index of few rows looks as cheap to read whole as to look one row up in; but dead rows gather there.
 * A scalar `(select … limit 1)` is a look-up however it is planned; `not exists` may become a join.
 */

/** Whether no lifecycle operation waits for the agent `a`: it goes first, or the message would meet its end. */
export const undisturbed = sql<boolean>`(select true from broker_dispatch d
  where d.agent_id = a.id and d.state in ('pending', 'in_progress') limit 1) is null`;

/** Whether a message of the agent `a` is on its way to it. */
export const inFlight = sql<boolean>`(select true from messages f
  where f.agent_id = a.id and f.state = 'delivering' limit 1) is not null`;

/** Whether the message `m`, found by its id, is in this state; said so that only the index of ids serves. */
export const isState = (state: MessageState) => sql<boolean>`coalesce(m.state, '') = ${sql.lit(state)}`;

/** A message whose delivery ended, and the claim under which it went. */
export interface EndedDelivery {
  readonly id: Uuid;
  readonly sessionId: Uuid;
}

/** These deliveries as rows `(id, session)`. */
export const ended = <P>(given: Given<P>, read: (p: P) => readonly EndedDelivery[]) => sql`
  (select e.id, e.session from unnest(${uuids(given, (p) => read(p).map((d) => d.id))},
      ${uuids(given, (p) => read(p).map((d) => d.sessionId))}) as e(id, session))`;

/** What the row of a delivered message says; who delivered it stays on it. */
export const delivered = (instanceId: RawBuilder<Uuid>) =>
  sql`state = 'delivered', dispatched_at = now(), error = null, claimed_by = ${instanceId}, claim_session = e.session`;
