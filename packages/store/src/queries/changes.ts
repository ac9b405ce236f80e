import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import type { Db } from "../database.ts";
import { type Given, statement } from "../statement.ts";
import type { ChangeLogTable, RuntimeBrokerStatus } from "../tables.ts";
import { transaction } from "../tx.ts";
import { type ReadScope, readableAgent, readableProject, readableWithAgents } from "./readScope.ts";

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
  /** Whether long texts were left out of `payload`. */
  readonly cut: boolean;
  /** Read from its text when asked for: most changes are told to nobody. */
  readonly payload: Readonly<Record<string, unknown>>;
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
  /** Milliseconds between the oldest write and this read, by the database's clock; 0 without rows. */
  readonly oldestMs: number;
  /** At most `limit`, in id order. */
  readonly rows: readonly ChangeRow[];
  readonly more: boolean;
}

/** The first row says where and when, the others are changes: either leaves the other's columns out. */
interface Head {
  readonly epoch: Uuid;
  readonly now: string;
  readonly pruned: boolean;
  readonly future: boolean;
  readonly oldestMs: number | null;
}

interface RawChange extends Omit<ChangeRow, "changed" | "cut" | "payload"> {
  /** A PostgreSQL array of column names, which need no quotes. */
  readonly changed: string;
  readonly payload: string;
}

const NO_NAMES: readonly string[] = [];

/** A row as it was read: arrays and JSON are taken apart only for whoever looks. */
class LoggedChange implements ChangeRow {
  readonly #raw: RawChange;
  #changed: readonly string[] | undefined;
  #payload: Readonly<Record<string, unknown>> | undefined;

  constructor(raw: RawChange) {
    this.#raw = raw;
  }

  get id(): string {
    return this.#raw.id;
  }
  get tx(): string {
    return this.#raw.tx;
  }
  get entity(): string {
    return this.#raw.entity;
  }
  get entityId(): Uuid {
    return this.#raw.entityId;
  }
  get op(): ChangeLogTable["op"] {
    return this.#raw.op;
  }
  get projectId(): Uuid | null {
    return this.#raw.projectId;
  }
  get agentId(): Uuid | null {
    return this.#raw.agentId;
  }
  get ownerId(): Uuid | null {
    return this.#raw.ownerId;
  }
  get changed(): readonly string[] {
    const { changed } = this.#raw;
    this.#changed ??= changed === "{}" ? NO_NAMES : changed.slice(1, -1).split(",");
    return this.#changed;
  }
  get cut(): boolean {
    // Within a text the quotes would have been escaped.
    return this.#raw.payload.includes('"cut": true');
  }
  get payload(): Readonly<Record<string, unknown>> {
    this.#payload ??= JSON.parse(this.#raw.payload) as Readonly<Record<string, unknown>>;
    return this.#payload;
  }
}

/**
 * What a look from the snapshot `seen` on asks, in parts of statements. So do the checks of the position, because a prune
 * between check and read would lose rows unseen.
 */
const look = <P>(given: Given<P>, read: (p: P) => string) => {
  // "Not visible in seen", spelled out so that an index finds it however long a writer has been open. The values are
  // given, not computed by the statement: the planner must see how few rows they name.
  const xmax = sql`${given((p) => read(p).split(":")[1] ?? "")}::xid8`;
  const open = sql`${given((p) => `{${read(p).split(":")[2] ?? ""}}`)}::xid8[]`;
  return {
    unseen: sql`(tx >= ${xmax} or tx = any(${open}))`,
    // Rows of a transaction that is still under way cannot have been pruned. Without that, one writer left open for long
    // anywhere in the cluster would void every position, the newest included.
    pruned: sql`(f.pruned_tx >= ${xmax} or exists (select from unnest(${open}) as o(tx)
      where o.tx <= f.pruned_tx and pg_visible_in_snapshot(o.tx, pg_current_snapshot())))`,
  };
};

/** Within a page the ids lead the way. Otherwise they must not ("+ 0"): everything unseen is at the end of the log. */
const reading = (within: "page" | "all") =>
  statement<ChangeQuery, Head & RawChange>((given) => {
    const seen = sql`${given((q) => q.seen)}::pg_snapshot`;
    const target = sql`${given((q) => q.page?.target ?? q.seen)}::pg_snapshot`;
    const { unseen, pruned } = look(given, (q) => q.seen);
    const wanted =
      within === "page"
        ? sql`${unseen} and pg_visible_in_snapshot(tx, ${target})
            and id >= ${given((q) => q.page?.afterId ?? "0")}::bigint + ${given((q) => (q.page?.inclusive ? 0 : 1))}
            order by id`
        : sql`${unseen} order by id + 0`;
    return sql`
    with page as materialized (select * from change_log where ${wanted} limit ${given((q) => q.limit + 1)})
    select f.epoch, pg_current_snapshot()::text as now, ${pruned} as pruned,
        greatest(pg_snapshot_xmax(${seen}), pg_snapshot_xmax(${target})) > pg_snapshot_xmax(pg_current_snapshot()) as future,
        (select extract(epoch from clock_timestamp() - min(at)) * 1000 from page)::float8 as "oldestMs",
        null::bigint as id, null as tx, null as entity, null::uuid as "entityId", null as op, null::uuid as "projectId",
        null::uuid as "agentId", null::uuid as "ownerId", null as changed, null as payload
      from feed_meta f
    union all
    select null, null, null, null, null, p.id, p.tx::text, p.entity, p.entity_id, p.op, p.project_id, p.agent_id,
        p.owner_user_id, p.changed::text, p.payload::text
      from page p
     order by id nulls first`;
  });
const readingPage = reading("page");
const readingAll = reading("all");

/** Reads changes and the snapshot of the reading in one statement. Positions must be well formed. */
export const readChanges = async (db: Db, q: ChangeQuery): Promise<ChangeRead> => {
  const { rows } = await (q.page ? readingPage : readingAll)(db, q);
  const [head, ...found] = rows;
  if (!head) throw new Error("feed_meta has no row");
  return {
    epoch: head.epoch,
    now: head.now,
    pruned: head.pruned,
    future: head.future,
    oldestMs: head.oldestMs ?? 0,
    rows: found.slice(0, q.limit).map((raw) => new LoggedChange(raw)),
    more: found.length > q.limit,
  };
};

/** What a look for changes finds when nobody wants to know which. */
export interface ChangeCount extends Omit<ChangeRead, "rows" | "more"> {
  /** Changes that became visible since. */
  readonly count: number;
  /** Whether any of them is of another entity than those that were named. */
  readonly others: boolean;
}

interface CountQuery {
  readonly seen: string;
  readonly entities: readonly string[];
}

const counting = statement<CountQuery, ChangeCount>((given) => {
  const { unseen, pruned } = look(given, (q) => q.seen);
  return sql`
    select f.epoch, pg_current_snapshot()::text as now, ${pruned} as pruned,
        pg_snapshot_xmax(${given((q) => q.seen)}::pg_snapshot) > pg_snapshot_xmax(pg_current_snapshot()) as future,
        n.count, n.others, coalesce(extract(epoch from clock_timestamp() - n.oldest) * 1000, 0)::float8 as "oldestMs"
      from feed_meta f cross join (
        select count(*)::int as count, min(at) as oldest,
            coalesce(bool_or(entity <> all(${given((q) => q.entities)}::text[])), false) as others
          from change_log where ${unseen}) n`;
});

/** As `readChanges` of everything unseen, without the changes: for a fraction of what they cost both ends. */
export const countChanges = async (db: Db, q: CountQuery): Promise<ChangeCount> => {
  const { rows } = await counting(db, q);
  const [row] = rows;
  if (!row) throw new Error("feed_meta has no row");
  return row;
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

/** Whether the server has not crashed since this was last so. */
const UNBROKEN = sql<boolean>`exists (select from feed_unbroken)`;

/**
 * Compares the cluster's history with the one that the positions handed out so far belong to. After a restore into
 * another cluster, a promotion, or a crash that forgot transactions, their ids may repeat: then the epoch is changed and
 * the log cleared, so that every older position gets a resync (spec/07 B.7). True when that happened.
 */
export const verifyHistory = async (db: Db): Promise<boolean> => {
  const { rows } = await sql<{ same: boolean }>`
    select fingerprint = ${FINGERPRINT} and ${UNBROKEN} as same from feed_meta`.execute(db);
  if (rows[0]?.same) return false;
  return transaction(db, async (tx) => {
    const { rows: locked } = await sql<{ known: string; actual: string }>`
      select fingerprint as known, ${FINGERPRINT} as actual from feed_meta for update`.execute(tx);
    const [history] = locked;
    if (!history) return false;
    // In a statement of its own: one that has waited for the lock still sees what was there before.
    const { numAffectedRows: broken } = await sql`
      insert into feed_unbroken default values on conflict do nothing`.execute(tx);
    if (history.known === history.actual && broken === 0n) return false;
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
  readonly outsideSenderId: string | null;
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
    select id, project_id as "projectId", agent_id as "agentId", sender, sender_id as "senderId",
        outside_sender_id as "outsideSenderId", recipient, recipient_id as "recipientId", msg, type, urgent, broadcasted, state is not null as "toAgent", error, created
      from messages where id = any(${[...ids]}::uuid[])`.execute(db);
  return rows;
};

/** What a caller may read at this moment. */
export interface ReadableIds {
  readonly projects: ReadonlySet<Uuid>;
  /** Projects all of whose agents may be read, those to come as well. */
  readonly withAgents: ReadonlySet<Uuid>;
  /** Agents of other projects. */
  readonly agents: ReadonlySet<Uuid>;
}

/** What a caller may read, for decisions about events, which come too fast for one query each. */
export const readableIds = async (
  db: Db,
  scopes: { readonly projects: ReadScope; readonly agents: ReadScope },
): Promise<ReadableIds> => {
  const { rows } = await sql<{ id: Uuid; kind: keyof ReadableIds }>`
    with whole as (select id from projects where ${readableWithAgents(scopes.agents)})
    select id, 'projects' as kind from projects where ${readableProject(scopes.projects)}
    union all
    select id, 'withAgents' from whole
    union all
    select agents.id, 'agents' from agents
     where ${readableAgent(scopes.agents)} and agents.project_id not in (select id from whole)`.execute(db);
  const ids = (kind: keyof ReadableIds) => new Set(rows.filter((r) => r.kind === kind).map((r) => r.id));
  return { projects: ids("projects"), withAgents: ids("withAgents"), agents: ids("agents") };
};
