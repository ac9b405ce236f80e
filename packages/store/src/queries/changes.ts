import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import type { Db } from "../database.ts";
import type { ChangeLogTable, RuntimeBrokerStatus } from "../tables.ts";
import { transaction } from "../tx.ts";
import { type ReadScope, readableAgent, readableProject } from "./readScope.ts";

/**
 * The change log (spec/07 part B). A reader's position is a snapshot, as text: it reads what is visible now and was not
 * visible then. Ids are handed out before commit, so a reader that remembers the last id skips rows that commit late.
 */

export interface ChangeRow {
  readonly id: string;
  /** The writing transaction, as the text of an xid8. */
  readonly tx: string;
  readonly entity: string;
  readonly entityId: Uuid;
  readonly op: ChangeLogTable["op"];
  readonly projectId: Uuid | null;
  readonly agentId: Uuid | null;
  /** The owner of what changed, or the person a message is to. */
  readonly ownerId: Uuid | null;
  readonly changed: readonly string[];
  readonly payload: Readonly<Record<string, unknown>>;
  /** Milliseconds between the write and this read, by the database's clock. */
  readonly ageMs: number;
}

/** What to read: everything unseen, or the rest of what was visible in `target`. */
export interface ChangeQuery {
  /** The snapshot before which everything was read. */
  readonly seen: string;
  /** Rows that were visible in `target`, in id order after `afterId` (from it on, if `inclusive`). */
  readonly page?: { readonly target: string; readonly afterId: string; readonly inclusive: boolean };
  readonly limit: number;
}

export interface ChangeRead {
  readonly epoch: Uuid;
  /** The snapshot in which this was read. */
  readonly now: string;
  /** Rows that belong to the answer may have been pruned. */
  readonly pruned: boolean;
  /** The position lies beyond what this database has seen. */
  readonly future: boolean;
  /** At most `limit`, in id order. */
  readonly rows: readonly ChangeRow[];
  readonly more: boolean;
}

interface RawRow extends Omit<ChangeRow, "id"> {
  readonly epoch: Uuid;
  readonly now: string;
  readonly pruned: boolean;
  readonly future: boolean;
  readonly id: string | null;
}

/**
 * Reads changes and the snapshot of the reading in one statement; so do the checks of the position, because a prune
 * between check and read would lose rows unseen. Positions must be well formed.
 */
export const readChanges = async (db: Db, q: ChangeQuery): Promise<ChangeRead> => {
  const seen = sql`${q.seen}::pg_snapshot`;
  const target = sql`${q.page?.target ?? q.seen}::pg_snapshot`;
  // "Not visible in seen", spelled out so that an index finds it however long a writer has been open. The values are
  // given, not computed by the statement: the planner must see how few rows they name.
  const [, xmax = "", xip = ""] = q.seen.split(":");
  const open = sql`${xip ? xip.split(",") : []}::xid8[]`;
  const unseen = sql`(tx >= ${xmax}::xid8 or tx = any(${open}))`;
  // Rows of a transaction that is still under way cannot have been pruned. Without that, one writer left open for long
  // anywhere in the cluster would void every position, the newest included.
  const pruned = sql`(f.pruned_tx >= ${xmax}::xid8 or exists (select from unnest(${open}) as o(tx)
    where o.tx <= f.pruned_tx and pg_visible_in_snapshot(o.tx, pg_current_snapshot())))`;
  const wanted = q.page
    ? sql`select id from change_log where ${unseen} and pg_visible_in_snapshot(tx, ${target})
            and id >= ${q.page.afterId}::bigint + ${q.page.inclusive ? 0 : 1} order by id limit ${q.limit + 1}`
    : sql`select id from change_log where ${unseen}`;
  const { rows } = await sql<RawRow>`
    with wanted as materialized (${wanted}),
      -- "offset 0" keeps this a look-up per row: as a join it is planned as a scan of the whole log.
      page as (select c.* from (select id from wanted order by id limit ${q.limit + 1}) w
        cross join lateral (select * from change_log l where l.id = w.id offset 0) c)
    select f.epoch, pg_current_snapshot()::text as now, ${pruned} as pruned,
        greatest(pg_snapshot_xmax(${seen}), pg_snapshot_xmax(${target})) > pg_snapshot_xmax(pg_current_snapshot()) as future,
        p.id, p.tx::text as tx, p.entity, p.entity_id as "entityId", p.op, p.project_id as "projectId",
        p.agent_id as "agentId", p.owner_user_id as "ownerId", p.changed, p.payload,
        (extract(epoch from clock_timestamp() - p.at) * 1000)::float8 as "ageMs"
      from feed_meta f left join page p on true order by p.id`.execute(db);
  const [first] = rows;
  if (!first) throw new Error("feed_meta has no row");
  const found = rows.flatMap(({ epoch: _e, now: _n, pruned: _p, future: _f, id, ...row }) =>
    id ? [{ id, ...row }] : [],
  );
  return {
    epoch: first.epoch,
    now: first.now,
    pruned: first.pruned,
    future: first.future,
    rows: found.slice(0, q.limit),
    more: found.length > q.limit,
  };
};

/** The position of now: whoever starts from it reads everything that commits later. */
export const currentPosition = async (db: Db): Promise<{ readonly epoch: Uuid; readonly seen: string }> => {
  const { rows } = await sql<{ epoch: Uuid; seen: string }>`
    select epoch, pg_current_snapshot()::text as seen from feed_meta`.execute(db);
  const [row] = rows;
  if (!row) throw new Error("feed_meta has no row");
  return row;
};

const FINGERPRINT = sql<string>`(select system_identifier || '-' || left(pg_walfile_name(pg_current_wal_lsn()), 8)
  from pg_control_system())`;

/**
 * Compares the cluster's history with the one that the positions handed out so far belong to. After a restore into
 * another cluster, or a promotion, transaction ids may repeat: then the epoch is changed and the log cleared, so that
 * every older position gets a resync (spec/07 B.7). True when that happened.
 */
export const verifyHistory = async (db: Db): Promise<boolean> => {
  const { rows } = await sql<{ same: boolean }>`
    select fingerprint = ${FINGERPRINT} as same from feed_meta`.execute(db);
  if (rows[0]?.same) return false;
  return transaction(db, async (tx) => {
    const { rows: locked } = await sql<{ known: string; actual: string }>`
      select fingerprint as known, ${FINGERPRINT} as actual from feed_meta for update`.execute(tx);
    const [history] = locked;
    if (!history || history.known === history.actual) return false;
    const first = history.known === "";
    if (!first) await startNewEpoch(tx);
    await tx.updateTable("feed_meta").set({ fingerprint: history.actual }).execute();
    return !first;
  });
};

/** Voids every position handed out so far: to be called after data may have gone back, as after a restore. */
export const startNewEpoch = (db: Db): Promise<void> =>
  transaction(db, async (tx) => {
    await sql`update feed_meta set epoch = gen_random_uuid(), pruned_tx = '0'`.execute(tx);
    await sql`truncate change_log`.execute(tx);
  });

/** What an event tells of an agent, read when the event is made. */
export interface AgentFacts {
  readonly id: Uuid;
  readonly [column: string]: unknown;
}

/** Agents whose change row does not carry what its event tells: restored ones, and those with long texts. */
export const agentFacts = async (db: Db, ids: readonly Uuid[]): Promise<AgentFacts[]> =>
  ids.length === 0
    ? []
    : db
        .selectFrom("agents")
        .select([
          "id",
          "name",
          "slug",
          "template",
          "phase",
          "activity",
          "tool_name",
          "message",
          "task_summary",
          "container_status",
          "current_turns",
          "current_model_calls",
          "started_at",
          "image",
          "runtime",
          "runtime_broker_id",
          "created_by",
          "visibility",
          "created",
        ])
        .where("id", "in", ids)
        .execute();

export interface ProjectFacts {
  readonly id: Uuid;
  readonly name: string;
  readonly slug: string;
}

export const projectFacts = async (db: Db, ids: readonly Uuid[]): Promise<ProjectFacts[]> =>
  ids.length === 0 ? [] : db.selectFrom("projects").select(["id", "name", "slug"]).where("id", "in", ids).execute();

export interface RuntimeBrokerFacts {
  readonly id: Uuid;
  readonly name: string;
  readonly status: RuntimeBrokerStatus;
  /** The projects it serves. */
  readonly projects: readonly Uuid[];
}

export const runtimeBrokerFacts = async (db: Db, ids: readonly Uuid[]): Promise<RuntimeBrokerFacts[]> => {
  if (ids.length === 0) return [];
  const { rows } = await sql<RuntimeBrokerFacts>`
    select r.id, r.name, r.status, array(
        select p.project_id from project_providers p where p.runtime_broker_id = r.id order by p.project_id) as projects
      from runtime_brokers r where r.id = any(${[...ids]}::uuid[])`.execute(db);
  return rows;
};

export interface MessageFacts {
  readonly id: Uuid;
  readonly projectId: Uuid;
  readonly agentId: Uuid | null;
  readonly sender: string;
  readonly senderId: Uuid | null;
  readonly recipient: string;
  readonly recipientId: Uuid | null;
  readonly msg: string;
  readonly type: string;
  readonly urgent: boolean;
  readonly broadcasted: boolean;
  readonly toAgent: boolean;
  readonly error: string | null;
  readonly created: Date;
}

/** Messages with their text, which the log does not hold. */
export const messageFacts = async (db: Db, ids: readonly Uuid[]): Promise<MessageFacts[]> => {
  if (ids.length === 0) return [];
  const { rows } = await sql<MessageFacts>`
    select id, project_id as "projectId", agent_id as "agentId", sender, sender_id as "senderId", recipient,
        recipient_id as "recipientId", msg, type, urgent, broadcasted, state is not null as "toAgent", error, created
      from messages where id = any(${[...ids]}::uuid[])`.execute(db);
  return rows;
};

/** Everything that a caller may read at this moment, for decisions about events, which come too fast for one query each. */
export const readableIds = async (
  db: Db,
  scope: ReadScope,
): Promise<{ readonly projects: ReadonlySet<Uuid>; readonly agents: ReadonlySet<Uuid> }> => {
  const { rows } = await sql<{ id: Uuid; kind: string }>`
    select id, 'project' as kind from projects where ${readableProject(scope)}
    union all
    select agents.id, 'agent' from agents join projects on projects.id = agents.project_id
     where ${readableAgent(scope)}`.execute(db);
  const ids = (kind: string) => new Set(rows.filter((r) => r.kind === kind).map((r) => r.id));
  return { projects: ids("project"), agents: ids("agent") };
};
