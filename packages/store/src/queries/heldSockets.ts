import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import type { Given } from "../statement.ts";
import { uuidArray } from "./uuidArray.ts";

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
  /** Agents with something under way on this replica, which the database may not know of: it may take it for dead. */
  readonly busyAgents: readonly Uuid[];
}

/**
 * The part `held(id, session, slots)` of a claim: those of the sockets that still are their runtime brokers' own. Locked
 * in id order FOR SHARE, so that a claim cannot commit beside the claim of a newer socket (design section 5). A look-up
 * per socket ("offset 0"): as a join it may be planned the other way round, and ten thousand sockets then take seconds.
 */
export const heldSockets = (given: Given<ClaimScope>) => sql`
    held as materialized (
      select rb.id, h.session, h.slots
        from unnest(${uuids(given, (p) => inOrder(p).map((s) => s.runtimeBrokerId))},
                    ${uuids(given, (p) => inOrder(p).map((s) => s.sessionId))},
                    ${given((p) => inOrder(p).map((s) => s.slots))}::int[]) as h(id, session, slots)
       cross join lateral (select r.id, r.connected_hub_id, r.connected_session_id from runtime_brokers r
         where r.id = h.id offset 0 for share) rb
       where rb.connected_hub_id = ${given((p) => p.instanceId)} and rb.connected_session_id = h.session)`;

const inOrder = ({ sockets }: ClaimScope): readonly HeldSocket[] => [...sockets].sort(byRuntimeBroker);

/** The order in which rows of runtime brokers are locked, as the database has it. */
export const byRuntimeBroker = (
  a: { readonly runtimeBrokerId: Uuid },
  b: { readonly runtimeBrokerId: Uuid },
): number => (a.runtimeBrokerId < b.runtimeBrokerId ? -1 : a.runtimeBrokerId > b.runtimeBrokerId ? 1 : 0);

/** A list of ids as one value of a statement. */
export const uuids = <P>(given: Given<P>, read: (p: P) => readonly Uuid[]) =>
  sql`${given((p) => uuidArray(read(p)))}::uuid[]`;
