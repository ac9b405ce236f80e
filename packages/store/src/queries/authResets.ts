import type { Uuid } from "@rootstock/protocol";
import { type Selectable, sql } from "kysely";
import { audited } from "../audit.ts";
import type { AuthResetsTable } from "../authResetTables.ts";
import type { Db } from "../database.ts";
import { transaction } from "../tx.ts";
import { after, type Page } from "./keyset.ts";

/** New tokens for agents: the versions that void the old ones, and the work of giving all of them new ones (spec/03 6.8). */

/**
 * Reserves the version of an agent's next token, higher than that of every token it was ever given. It counts from now
 * on; those before count until {@link confirmTokenVersion}. Undefined: there is no such agent.
 */
export const reserveTokenVersion = async (db: Db, agentId: Uuid): Promise<number | undefined> => {
  const { rows } = await sql<{ issued: number }>`
    insert into agent_token_versions as v (agent_id, issued) select id, token_version + 1 from agents where id = ${agentId}
    on conflict (agent_id) do update set issued = greatest(v.issued + 1, excluded.issued)
    returning issued`.execute(db);
  return rows[0]?.issued;
};

/** Makes every token of an older version worthless. Repeated, or after a newer one, it changes nothing. */
export const confirmTokenVersion = (db: Db, agentId: Uuid, version: number): Promise<void> =>
  audited(db, async (tx) => {
    await tx
      .updateTable("agents")
      .set({ token_version: version })
      .where("id", "=", agentId)
      .where("token_version", "<", version)
      .execute();
  });

/** Above every version that a token of the agent has, in a statement on `agents`. */
export const nextTokenVersion = sql<number>`
  greatest(token_version, (select v.issued from agent_token_versions v where v.agent_id = agents.id)) + 1`;

/** Makes every token of the agent issued so far worthless. */
export const voidAgentTokens = (db: Db, agentId: Uuid): Promise<void> =>
  audited(db, async (tx) => {
    await tx.updateTable("agents").set({ token_version: nextTokenVersion }).where("id", "=", agentId).execute();
  });

/** New tokens for all agents that run, as far as it has come. */
export interface AuthReset extends Selectable<AuthResetsTable> {
  readonly total: number;
  readonly pending: number;
  readonly failed: number;
}

/**
 * Begins to give every agent that runs now a new token. One at a time: while one is under way, that is returned. Repeated
 * with the same id, it changes nothing.
 */
export const beginAuthReset = (
  db: Db,
  p: { readonly id: Uuid; readonly createdBy: Uuid; readonly traceparent: string | undefined },
): Promise<Uuid> =>
  transaction(db, (outer) =>
    audited(outer, async (tx) => {
      for (;;) {
        const { rows: begun } = await sql`
        insert into auth_resets (id, created_by, traceparent) values (${p.id}, ${p.createdBy}, ${p.traceparent ?? null})
        on conflict do nothing returning 1`.execute(tx);
        if (begun.length > 0) {
          await sql`
          insert into auth_reset_agents (reset_id, agent_id, name, dispatch_id)
          select ${p.id}, id, name, gen_random_uuid() from agents where phase = 'running' and deleted_at is null`.execute(
            tx,
          );
          return p.id;
        }
        const known = await tx
          .selectFrom("auth_resets")
          .select("id")
          .where((eb) => eb.or([eb("finished_at", "is", null), eb("id", "=", p.id)]))
          .orderBy(sql`id = ${p.id}`, "desc")
          .executeTakeFirst();
        // Else the one in the way has ended in between.
        if (known) return known.id;
      }
    }),
  );

/** An agent that waits for its new token. */
export interface PendingAuthReset {
  readonly reset_id: Uuid;
  readonly agent_id: Uuid;
  readonly name: string;
  /** The operation, whoever begins it. */
  readonly dispatch_id: Uuid;
  /** Who asked. */
  readonly created_by: Uuid | null;
  /** The trace of the call. */
  readonly traceparent: string | null;
  /** Null: it has none, or is gone. */
  readonly runtime_broker_id: Uuid | null;
}

/** Agents after `after` that still wait for their new tokens, at most `limit`. */
export const pendingAuthResets = (db: Db, afterAgent: Uuid | undefined, limit: number): Promise<PendingAuthReset[]> =>
  db
    .selectFrom("auth_reset_agents as a")
    .innerJoin("auth_resets as r", "r.id", "a.reset_id")
    .leftJoin("agents", "agents.id", "a.agent_id")
    .select([
      "a.reset_id",
      "a.agent_id",
      "a.name",
      "a.dispatch_id",
      "r.created_by",
      "r.traceparent",
      "agents.runtime_broker_id",
    ])
    .where("r.finished_at", "is", null)
    .where("a.state", "=", "pending")
    .$if(afterAgent !== undefined, (q) => q.where("a.agent_id", ">", afterAgent ?? ""))
    .orderBy("a.agent_id")
    .limit(limit)
    .execute();

/** Writes down how it ended for one agent; the first word stands. */
export const settleAuthReset = async (
  db: Db,
  item: Pick<PendingAuthReset, "reset_id" | "agent_id">,
  error: string | null,
): Promise<void> => {
  await db
    .updateTable("auth_reset_agents")
    .set({ state: error === null ? "done" : "failed", error })
    .where("reset_id", "=", item.reset_id)
    .where("agent_id", "=", item.agent_id)
    .where("state", "=", "pending")
    .execute();
};

/** Ends what has nothing left to do. How many. */
export const finishAuthResets = async (db: Db): Promise<number> => {
  const { numAffectedRows } = await sql`
    update auth_resets r set finished_at = now() where finished_at is null and not exists (
      select from auth_reset_agents a where a.reset_id = r.id and a.state = 'pending')`.execute(db);
  return Number(numAffectedRows ?? 0n);
};

/** Whether it has come to its end; false as well when there is none with this id. */
export const isAuthResetOver = async (db: Db, id: Uuid): Promise<boolean> => {
  const found = await db
    .selectFrom("auth_resets")
    .select("id")
    .where("id", "=", id)
    .where("finished_at", "is not", null)
    .executeTakeFirst();
  return found !== undefined;
};

const resets = (db: Db) =>
  db
    .selectFrom("auth_resets as r")
    .selectAll("r")
    .select([
      sql<number>`(select count(*)::int from auth_reset_agents a where a.reset_id = r.id)`.as("total"),
      sql<number>`(select count(*)::int from auth_reset_agents a where a.reset_id = r.id and a.state = 'pending')`.as(
        "pending",
      ),
      sql<number>`(select count(*)::int from auth_reset_agents a where a.reset_id = r.id and a.state = 'failed')`.as(
        "failed",
      ),
    ]);

export const authResetById = (db: Db, id: Uuid): Promise<AuthReset | undefined> =>
  resets(db).where("r.id", "=", id).executeTakeFirst();

/** One page, newest first. */
export const listAuthResets = (db: Db, page: Page): Promise<AuthReset[]> =>
  resets(db)
    .where(after("r", page.after))
    .orderBy("r.created", "desc")
    .orderBy("r.id", "desc")
    .limit(page.limit)
    .execute();

export const countAuthResets = async (db: Db): Promise<number> => {
  const { n } = await db.selectFrom("auth_resets").select(sql<number>`count(*)::int`.as("n")).executeTakeFirstOrThrow();
  return n;
};

/** An agent in the report. */
export interface AuthResetLine {
  readonly agent_id: Uuid;
  readonly name: string;
  readonly state: "done" | "failed";
  readonly error: string | null;
}

/** The report as far as it goes: every agent for which it has ended, by name. */
export const authResetReport = async (db: Db, id: Uuid): Promise<AuthResetLine[]> => {
  const { rows } = await sql<AuthResetLine>`
    select agent_id, name, state, error from auth_reset_agents
     where reset_id = ${id} and state <> 'pending' order by name, agent_id`.execute(db);
  return rows;
};

/** Forgets reports that ended longer than `maxAgeSeconds` ago, at most `limit`. */
export const deleteOldAuthResets = async (
  db: Db,
  p: { readonly maxAgeSeconds: number; readonly limit: number },
): Promise<number> => {
  const { numAffectedRows } = await sql`
    delete from auth_resets where id in (select id from auth_resets
      where finished_at < now() - make_interval(secs => ${p.maxAgeSeconds}::float8) limit ${p.limit})`.execute(db);
  return Number(numAffectedRows ?? 0n);
};
