import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import type { Db } from "../database.ts";
import type { MessageRow } from "./deliveries.ts";
import { after, all, type Condition, type Page, type Position } from "./keyset.ts";

/** What a list of messages is narrowed to; all given fields must hold (spec/02 4.3). */
export interface MessageFilter {
  /** A person: messages to agents are not found by it. */
  readonly recipientId?: Uuid | undefined;
  /** Sender or recipient. */
  readonly participantId?: Uuid | undefined;
  readonly projectId?: Uuid | undefined;
  /** The agent involved: its id, or its name in any project. */
  readonly agent?: { readonly id: Uuid } | { readonly name: string } | undefined;
  readonly type?: string | undefined;
  readonly onlyUnread?: boolean | undefined;
}

const conditions = (f: MessageFilter): Condition => {
  const list: Condition[] = [];
  if (f.recipientId !== undefined)
    list.push(sql<boolean>`(messages.recipient_id = ${f.recipientId} and messages.state is null)`);
  if (f.participantId !== undefined)
    list.push(sql<boolean>`(messages.sender_id = ${f.participantId} or messages.recipient_id = ${f.participantId})`);
  if (f.projectId !== undefined) list.push(sql<boolean>`messages.project_id = ${f.projectId}`);
  if (f.agent !== undefined)
    list.push(
      "id" in f.agent
        ? sql<boolean>`messages.agent_id = ${f.agent.id}`
        : sql<boolean>`messages.agent_id in (select a.id from agents a
            where a.slug = ${f.agent.name} or lower(a.name) = lower(${f.agent.name}))`,
    );
  if (f.type !== undefined) list.push(sql<boolean>`messages.type = ${f.type}`);
  if (f.onlyUnread) list.push(sql<boolean>`not messages.read`);
  return all(list);
};

/** One page of messages, newest first. */
export const listMessages = (db: Db, filter: MessageFilter, page: Page): Promise<MessageRow[]> =>
  db
    .selectFrom("messages")
    .selectAll()
    .where(conditions(filter))
    .where(after("messages", page.after))
    .orderBy("created", "desc")
    .orderBy("id", "desc")
    .limit(page.limit)
    .execute();

/** How many messages the filter matches. */
export const countMessages = async (db: Db, filter: MessageFilter): Promise<number> => {
  const row = await db
    .selectFrom("messages")
    .where(conditions(filter))
    .select(sql<number>`count(*)::int`.as("total"))
    .executeTakeFirstOrThrow();
  return row.total;
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

/** Marks every message to this person read. */
export const markAllMessagesRead = async (db: Db, recipientId: Uuid): Promise<void> => {
  await db
    .updateTable("messages")
    .set({ read: true })
    .where("recipient_id", "=", recipientId)
    .where("state", "is", null)
    .where("read", "=", false)
    .execute();
};
