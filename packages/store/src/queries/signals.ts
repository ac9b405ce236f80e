import { sql } from "kysely";
import type { Db } from "../database.ts";
import { statement } from "../statement.ts";

/** One NOTIFY to send. */
export interface Notification {
  readonly channel: string;
  readonly payload: string;
}

const notifying = statement<readonly Notification[], unknown>(
  (given) => sql`
    select pg_notify(n.channel, n.payload)
      from unnest(${given((p) => p.map((n) => n.channel))}::text[], ${given((p) => p.map((n) => n.payload))}::text[])
        as n(channel, payload)`,
);

/**
 * Sends notifications in one statement and one commit. Never inside a transaction that writes data: a transaction that
 * notifies takes a database-wide lock at commit (design section 6).
 */
export const notify = async (db: Db, notifications: readonly Notification[]): Promise<void> => {
  await notifying(db, notifications);
};
