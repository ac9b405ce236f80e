import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";

/** A socket that a replica holds, and how many more requests it takes now. */
export interface HeldSocket {
  readonly runtimeBrokerId: Uuid;
  readonly sessionId: Uuid;
  readonly slots: number;
}

/** Who claimed an intent: the fence of everything done for it. */
export interface Claim {
  readonly instanceId: Uuid;
  readonly sessionId: Uuid;
}

/** Everything a claim is made with. */
export interface ClaimScope {
  readonly instanceId: Uuid;
  readonly sockets: readonly HeldSocket[];
  /** Agents with something under way on this replica that has no row. */
  readonly busyAgents: readonly Uuid[];
}

/**
 * The part `held(id, session, slots)` of a claim: those of the sockets that still are their runtime brokers' own. Locked
 * in id order FOR SHARE, so that a claim cannot commit beside the claim of a newer socket (design section 5).
 */
export const heldSockets = (p: ClaimScope) => sql`
    held as materialized (
      select rb.id, h.session, h.slots
        from unnest(${uuids(p.sockets.map((s) => s.runtimeBrokerId))}, ${uuids(p.sockets.map((s) => s.sessionId))},
                    ${ints(p.sockets.map((s) => s.slots))}) as h(id, session, slots)
        join runtime_brokers rb on rb.id = h.id
         and rb.connected_hub_id = ${p.instanceId} and rb.connected_session_id = h.session
       order by rb.id for share of rb)`;

/** A list of ids as one parameter. */
export const uuids = (ids: readonly Uuid[]) => sql`${[...ids]}::uuid[]`;

const ints = (numbers: readonly number[]) => sql`${[...numbers]}::int[]`;
