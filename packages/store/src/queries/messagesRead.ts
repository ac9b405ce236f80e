import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import type { Db } from "../database.ts";
import {
  after,
  all,
  COUNTED_EXACTLY,
  type Condition,
  expectedRows,
  type Page,
  type Position,
  type Total,
  totalOf,
} from "./keyset.ts";
import type { MessageRow } from "./messageConditions.ts";

/** What a list of messages is narrowed to; all given fields must hold (spec/02 4.3). */
export interface MessageFilter {
  readonly userId: Uuid;
  /** What the person got, or both sides of what is said between them and agents. */
  readonly view: "inbox" | "conversation";
  readonly projectId?: Uuid | undefined;
  /** The agent involved: its id, or its name in any project. */
  readonly agent?: { readonly id: Uuid } | { readonly name: string } | undefined;
  readonly type?: string | undefined;
  readonly onlyUnread?: boolean | undefined;
}

const narrowed = (f: MessageFilter): Condition => {
  const list: Condition[] = [];
  if (f.projectId !== undefined) list.push(sql<boolean>`messages.project_id = ${f.projectId}`);
  if (f.agent !== undefined && "id" in f.agent) list.push(sql<boolean>`messages.agent_id = ${f.agent.id}`);
  if (f.type !== undefined) list.push(sql<boolean>`messages.type = ${f.type}`);
  if (f.onlyUnread) list.push(sql<boolean>`not messages.read`);
  return all(list);
};

/** What a person got: messages to persons have no state. */
const gotBy = (userId: Uuid): Condition => sql<boolean>`(messages.recipient_id = ${userId} and messages.state is null)`;

/** What a person said to agents. */
const saidBy = (userId: Uuid): Condition =>
  sql<boolean>`(messages.sender_id = ${userId} and length(messages.state) > 0)`;

/** What the filter asks for, as parts of which each is found in the order of lists; no message is in two of them. */
const parts = (f: MessageFilter): readonly Condition[] =>
  f.view === "inbox" ? [gotBy(f.userId)] : [gotBy(f.userId), saidBy(f.userId)];

/** The agents that have this name. */
const named = (name: string) =>
  sql`(select id from agents where slug = ${name} union select id from agents where lower(name) = lower(${name}))`;

const nameIn = (f: MessageFilter): string | undefined =>
  f.agent !== undefined && "name" in f.agent ? f.agent.name : undefined;

/** The first rows of every part, all of them without a limit; of agents with one name, each gives its first. */
const firstRows = (f: MessageFilter, what: string, condition: Condition, limit?: number) => {
  const ordered = limit === undefined ? sql`` : sql`order by created desc, id desc limit ${limit}`;
  const rows = (part: Condition, more: Condition) =>
    sql`select ${sql.raw(what)} from messages where ${all([part, condition, more])} ${ordered}`;
  const name = nameIn(f);
  return sql.join(
    parts(f).map((part) =>
      name === undefined
        ? sql`(${rows(part, sql`true`)})`
        : sql`(select found.* from ${named(name)} named
            cross join lateral (${rows(part, sql`messages.agent_id = named.id`)}) as found ${ordered})`,
    ),
    sql` union all `,
  );
};

/** A name as the ids of its agents: how many rows those have the planner knows, of names it knows nothing. */
const ofNamed = async (db: Db, f: MessageFilter): Promise<Condition> => {
  const name = nameIn(f);
  if (name === undefined) return sql<boolean>`true`;
  const { rows } = await sql<{ id: Uuid }>`select id from ${named(name)} named`.execute(db);
  return sql<boolean>`messages.agent_id = any(${rows.map((r) => r.id)}::uuid[])`;
};

/** One page of messages, newest first. */
export const listMessages = async (db: Db, filter: MessageFilter, page: Page): Promise<MessageRow[]> => {
  const condition = all([narrowed(filter), after("messages", page.after)]);
  const { limit } = page;
  const { rows } = await sql<MessageRow>`
    select * from (${firstRows(filter, "*", condition, limit)}) as found
     order by created desc, id desc limit ${limit}`.execute(db);
  return rows;
};

/** How many messages the filter matches, estimated where they are many; `limit` is that of the page. */
export const countMessages = async (db: Db, filter: MessageFilter, limit: number): Promise<Total> => {
  const condition = narrowed(filter);
  const most = COUNTED_EXACTLY + limit;
  const either = sql<boolean>`(${sql.join(parts(filter), sql` or `)})`;
  const counting = sql<{ counted: number }>`select count(*)::int as counted
    from (${firstRows(filter, "id, created", condition, most + 1)}) as found`.execute(db);
  const expecting = ofNamed(db, filter).then((byName) =>
    expectedRows(db, sql`select from messages where ${all([either, condition, byName])}`),
  );
  const [{ rows }, expected] = await Promise.all([counting, expecting]);
  return totalOf(rows[0]?.counted ?? 0, most, expected);
};

/** How many messages the filter matches, every single one counted: that takes as long as they are many. */
export const countAllMessages = async (db: Db, filter: MessageFilter): Promise<number> => {
  const { rows } = await sql<{ counted: number }>`select count(*)::int as counted
    from (${firstRows(filter, "1", narrowed(filter))}) as found`.execute(db);
  return rows[0]?.counted ?? 0;
};

/** Where the message with this id stands in the order of lists, if it is of the caller's. */
export const messagePosition = (db: Db, participantId: Uuid, id: Uuid): Promise<Position | undefined> =>
  db
    .selectFrom("messages")
    .where("id", "=", id)
    .where((eb) => eb.or([eb("sender_id", "=", participantId), eb("recipient_id", "=", participantId)]))
    .select(["created", "id"])
    .executeTakeFirst();

/** The message with this id. */
export const messageById = (db: Db, id: Uuid): Promise<MessageRow | undefined> =>
  db.selectFrom("messages").selectAll().where("id", "=", id).executeTakeFirst();

/** Marks the message read. Nothing is written when it was. */
export const markMessageRead = async (db: Db, id: Uuid): Promise<void> => {
  await db.updateTable("messages").set({ read: true }).where("id", "=", id).where("read", "=", false).execute();
};

/** Marks every message to this recipient read. */
export const markAllMessagesRead = async (db: Db, recipientId: Uuid): Promise<void> => {
  await db
    .updateTable("messages")
    .set({ read: true })
    .where("recipient_id", "=", recipientId)
    .where("state", "is", null)
    .where("read", "=", false)
    .execute();
};
