import type { Uuid } from "@rootstock/protocol";
import { type Selectable, sql } from "kysely";
import type { Db } from "../database.ts";
import type { TraceHopsTable } from "../tables.ts";
import type { DispatchRow } from "./dispatches.ts";
import type { MessageRow } from "./messageConditions.ts";

/** What is known of the way of a message or an operation, and of what it waits for. Read only when somebody asks. */

export type HopRow = Selectable<TraceHopsTable>;

/** A runtime broker as a trace needs it. */
export interface TraceRuntimeBroker {
  readonly id: Uuid;
  readonly name: string;
  readonly connectedHubId: Uuid | null;
  readonly disconnectedAt: Date | null;
  /** When the replica that holds its socket last said that it lives; null when it is not registered. */
  readonly ownerSeenAt: Date | null;
}

/** What stands before a message or an operation now. */
export interface Obstacles {
  /** The unfinished operation of the agent that goes first. */
  readonly operation: { readonly id: Uuid; readonly op: string; readonly state: string } | undefined;
  /** Undelivered messages of the agent that were accepted earlier; counted up to {@link MOST_COUNTED}. */
  readonly earlierMessages: number;
}

/** Everything from which a trace is told, as one moment saw it. */
export interface TraceFacts {
  readonly now: Date;
  readonly hops: readonly HopRow[];
  /** Whether there are earlier hops than those. */
  readonly hopsOmitted: boolean;
  /** The runtime broker of the agent today, where a message goes next, or that of the operation. */
  readonly runtimeBroker: TraceRuntimeBroker | undefined;
  /** Names of the replicas that occur, by id. */
  readonly replicas: ReadonlyMap<Uuid, string>;
  /** Names of the runtime brokers that occur, by id. */
  readonly runtimeBrokers: ReadonlyMap<Uuid, string>;
  readonly obstacles: Obstacles;
  /**
   * How many messages to the agent that were accepted within the hour before this one were delivered only after it was
   * accepted; counted up to {@link MOST_COUNTED}.
   */
  readonly wentBefore: number;
}

/** Beyond so many nobody is helped by a number. */
export const MOST_COUNTED = 1_000;

const NO_OBSTACLES: Obstacles = { operation: undefined, earlierMessages: 0 };

/** One look at the database: what is read later is as it was when the first statement ran. */
const atOneMoment = <T>(db: Db, read: (tx: Db) => Promise<T>): Promise<T> =>
  db.transaction().setIsolationLevel("repeatable read").setAccessMode("read only").execute(read);

/** The latest hops, in order. */
const hopsOf = async (db: Db, subjectId: Uuid): Promise<Pick<TraceFacts, "hops" | "hopsOmitted">> => {
  const rows = await db
    .selectFrom("trace_hops")
    .selectAll()
    .where("subject_id", "=", subjectId)
    .orderBy("id", "desc")
    .limit(MOST_COUNTED + 1)
    .execute();
  return { hops: rows.slice(0, MOST_COUNTED).reverse(), hopsOmitted: rows.length > MOST_COUNTED };
};

const named = async (
  db: Db,
  p: { readonly replicas: readonly (Uuid | null)[]; readonly runtimeBrokers: readonly (Uuid | null)[] },
): Promise<Pick<TraceFacts, "now" | "replicas" | "runtimeBrokers">> => {
  const ids = (list: readonly (Uuid | null)[]) => sql`any(${[...new Set(list.filter((id) => id !== null))]}::uuid[])`;
  const { now } = await db.selectNoFrom(sql<Date>`now()`.as("now")).executeTakeFirstOrThrow();
  const { rows } = await sql<{ kind: "replica" | "runtimeBroker"; id: Uuid; name: string }>`
    select 'replica' as kind, instance_id as id, name from replica_names where instance_id = ${ids(p.replicas)}
    union all
    select 'runtimeBroker', id, name from runtime_brokers where id = ${ids(p.runtimeBrokers)}`.execute(db);
  const of = (kind: string) => new Map(rows.filter((r) => r.kind === kind).map((r) => [r.id, r.name]));
  return { now, replicas: of("replica"), runtimeBrokers: of("runtimeBroker") };
};

const runtimeBrokerOf = async (db: Db, id: Uuid | null): Promise<TraceRuntimeBroker | undefined> =>
  id === null
    ? undefined
    : db
        .selectFrom("runtime_brokers as rb")
        .leftJoin("hub_replicas as owner", "owner.instance_id", "rb.connected_hub_id")
        .select(["rb.id", "rb.name", "rb.connected_hub_id as connectedHubId", "rb.disconnected_at as disconnectedAt"])
        .select("owner.last_seen as ownerSeenAt")
        .where("rb.id", "=", id)
        .executeTakeFirst();

/** The first unfinished operation of the agent, of those before `seq` where that is given. */
const operationBefore = (db: Db, agentId: Uuid, seq?: string): Promise<Obstacles["operation"]> => {
  const unfinished = db
    .selectFrom("broker_dispatch")
    .select(["id", "op", "state"])
    .where("agent_id", "=", agentId)
    .where("state", "in", ["pending", "in_progress"]);
  return (seq === undefined ? unfinished : unfinished.where("seq", "<", seq))
    .orderBy("seq")
    .limit(1)
    .executeTakeFirst();
};

const earlierUndelivered = async (db: Db, agentId: Uuid, seq: string): Promise<number> => {
  const of = (state: "pending" | "delivering") => sql`(select 1 from messages where agent_id = ${agentId}
    and state = ${sql.lit(state)} and seq < ${seq}::bigint order by seq limit ${MOST_COUNTED})`;
  const { rows } = await sql<{ n: number }>`
    select count(*)::int as n from (${of("pending")} union all ${of("delivering")}) as earlier`.execute(db);
  return Math.min(rows[0]?.n ?? 0, MOST_COUNTED);
};

/** Within the time before: by the agent alone, all that it was ever told would be read. */
const deliveredAfter = async (db: Db, m: MessageRow): Promise<number> => {
  const { rows } = await sql<{ n: number }>`
    select count(*)::int as n from (
      select 1 from messages where agent_id = ${m.agent_id} and length(state) > 0
         and created <= ${m.created} and created > ${m.created}::timestamptz - interval '1 hour'
         and seq < ${m.seq}::bigint and dispatched_at > ${m.created} limit ${MOST_COUNTED}) as before`.execute(db);
  return rows[0]?.n ?? 0;
};

/** The runtime broker whose plugin has brought a message in from outside; null for what somebody of this hub has written. */
export const broughtInBy = (m: Pick<MessageRow, "sender_id" | "created_by">): Uuid | null =>
  m.sender_id === null ? m.created_by : null;

/** A message with everything that its trace is told from. Undefined when there is no such message. */
export const messageTraceFacts = (
  db: Db,
  id: Uuid,
): Promise<{ readonly message: MessageRow; readonly facts: TraceFacts } | undefined> =>
  atOneMoment(db, async (tx) => {
    const message = await tx.selectFrom("messages").selectAll().where("id", "=", id).executeTakeFirst();
    if (!message) return undefined;
    const { agent_id: agentId } = message;
    const way = await hopsOf(tx, id);
    const agent =
      agentId === null
        ? undefined
        : await tx.selectFrom("agents").select("runtime_broker_id").where("id", "=", agentId).executeTakeFirst();
    const runtimeBroker = await runtimeBrokerOf(tx, agent?.runtime_broker_id ?? message.runtime_broker_id);
    const waits = agentId !== null && message.state === "pending";
    const obstacles = waits
      ? {
          ...NO_OBSTACLES,
          operation: await operationBefore(tx, agentId),
          earlierMessages: await earlierUndelivered(tx, agentId, message.seq),
        }
      : NO_OBSTACLES;
    const names = await named(tx, {
      replicas: [
        message.accepted_by,
        message.claimed_by,
        runtimeBroker?.connectedHubId ?? null,
        ...way.hops.map((h) => h.replica_id),
      ],
      runtimeBrokers: [message.runtime_broker_id, broughtInBy(message), ...way.hops.map((h) => h.runtime_broker_id)],
    });
    const wentBefore = agentId !== null && message.state !== null ? await deliveredAfter(tx, message) : 0;
    return { message, facts: { ...names, ...way, runtimeBroker, obstacles, wentBefore } };
  });

/** An operation with everything that its trace is told from. Undefined when there is no such operation. */
export const dispatchTraceFacts = (
  db: Db,
  id: Uuid,
): Promise<{ readonly dispatch: DispatchRow; readonly facts: TraceFacts } | undefined> =>
  atOneMoment(db, async (tx) => {
    const dispatch = await tx.selectFrom("broker_dispatch").selectAll().where("id", "=", id).executeTakeFirst();
    if (!dispatch) return undefined;
    const way = await hopsOf(tx, id);
    const runtimeBroker = await runtimeBrokerOf(tx, dispatch.runtime_broker_id);
    const { agent_id: agentId } = dispatch;
    const obstacles =
      agentId !== null && dispatch.state === "pending"
        ? { ...NO_OBSTACLES, operation: await operationBefore(tx, agentId, dispatch.seq) }
        : NO_OBSTACLES;
    const names = await named(tx, {
      replicas: [
        dispatch.accepted_by,
        dispatch.claimed_by,
        runtimeBroker?.connectedHubId ?? null,
        ...way.hops.map((h) => h.replica_id),
      ],
      runtimeBrokers: [dispatch.runtime_broker_id, ...way.hops.map((h) => h.runtime_broker_id)],
    });
    return { dispatch, facts: { ...names, ...way, runtimeBroker, obstacles, wentBefore: 0 } };
  });

/** The latest operations on an agent, newest first. */
export const dispatchesOfAgent = (db: Db, agentId: Uuid, limit: number): Promise<DispatchRow[]> =>
  db
    .selectFrom("broker_dispatch")
    .selectAll()
    .where("agent_id", "=", agentId)
    .orderBy("seq", "desc")
    .limit(limit)
    .execute();
