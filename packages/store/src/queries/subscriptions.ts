import type { Uuid } from "@rootstock/protocol";
import { type Selectable, sql } from "kysely";
import type { Db } from "../database.ts";
import type { NotificationSubscriptionsTable } from "../tables.ts";

export type SubscriptionRow = Selectable<NotificationSubscriptionsTable>;

/** A subscription with the slug of its agent, where it has one. */
export interface SubscriptionView extends SubscriptionRow {
  readonly agent_slug: string | null;
}

/** Who wants to hear of what. */
export interface Subscription {
  readonly id: Uuid;
  /** Absent: of every agent of the project. */
  readonly agentId: Uuid | undefined;
  readonly projectId: Uuid;
  readonly subscriber: { readonly type: "user" | "agent"; readonly id: Uuid };
  /** Upper case. */
  readonly triggerActivities: readonly string[];
}

/**
 * Stores the subscription. One that the subscriber has already is widened by the new triggers and returned with
 * `created: false`: two subscriptions would tell of everything twice.
 * Throws a foreign key violation when the agent or the project is gone.
 */
export const createSubscription = async (
  db: Db,
  s: Subscription,
): Promise<{ readonly row: SubscriptionRow; readonly created: boolean }> => {
  const scope = s.agentId === undefined ? "project" : "agent";
  const inserted = await db
    .insertInto("notification_subscriptions")
    .values({
      id: s.id,
      scope,
      agent_id: s.agentId ?? null,
      subscriber_type: s.subscriber.type,
      subscriber_id: s.subscriber.id,
      project_id: s.projectId,
      trigger_activities: JSON.stringify(s.triggerActivities),
      created_by: s.subscriber.id,
    })
    .onConflict((c) => c.doNothing())
    .returningAll()
    .executeTakeFirst();
  if (inserted) return { row: inserted, created: true };
  const row = await db
    .updateTable("notification_subscriptions")
    .set({
      trigger_activities: sql`trigger_activities || (select coalesce(jsonb_agg(asked.name), '[]')
        from jsonb_array_elements(${JSON.stringify(s.triggerActivities)}::jsonb) as asked (name)
        where not trigger_activities @> jsonb_build_array(asked.name))`,
    })
    .where("scope", "=", scope)
    .where("agent_id", "is not distinct from", s.agentId ?? null)
    .where("subscriber_type", "=", s.subscriber.type)
    .where("subscriber_id", "=", s.subscriber.id)
    .where("project_id", "=", s.projectId)
    .returningAll()
    .executeTakeFirstOrThrow();
  return { row, created: false };
};

export interface SubscriptionFilter {
  readonly subscriberId: Uuid;
  readonly projectId?: Uuid | undefined;
  readonly agentId?: Uuid | undefined;
  readonly scope?: "agent" | "project" | undefined;
}

/** The subscriber's own subscriptions, the oldest first. */
export const listSubscriptions = (db: Db, f: SubscriptionFilter): Promise<SubscriptionView[]> => {
  let query = db
    .selectFrom("notification_subscriptions as s")
    .leftJoin("agents as a", "a.id", "s.agent_id")
    .selectAll("s")
    .select("a.slug as agent_slug")
    .where("s.subscriber_id", "=", f.subscriberId);
  if (f.projectId !== undefined) query = query.where("s.project_id", "=", f.projectId);
  if (f.agentId !== undefined) query = query.where("s.agent_id", "=", f.agentId);
  if (f.scope !== undefined) query = query.where("s.scope", "=", f.scope);
  return query.orderBy("s.created").orderBy("s.id").execute();
};

/** How many subscriptions the subscriber has. */
export const countSubscriptions = async (db: Db, subscriberId: Uuid): Promise<number> => {
  const row = await db
    .selectFrom("notification_subscriptions")
    .where("subscriber_id", "=", subscriberId)
    .select((eb) => eb.fn.countAll<string>().as("total"))
    .executeTakeFirstOrThrow();
  return Number(row.total);
};

/** The subscription with this id. */
export const subscriptionById = (db: Db, id: Uuid): Promise<SubscriptionRow | undefined> =>
  db.selectFrom("notification_subscriptions").selectAll().where("id", "=", id).executeTakeFirst();

/** Replaces what the subscription waits for. Undefined when it is gone. */
export const setSubscriptionTriggers = (
  db: Db,
  id: Uuid,
  triggerActivities: readonly string[],
): Promise<SubscriptionRow | undefined> =>
  db
    .updateTable("notification_subscriptions")
    .set({ trigger_activities: JSON.stringify(triggerActivities) })
    .where("id", "=", id)
    .returningAll()
    .executeTakeFirst();

/** Deletes those of the subscriptions that are the subscriber's. Returns how many. */
export const deleteSubscriptions = async (db: Db, subscriberId: Uuid, ids: readonly Uuid[]): Promise<number> => {
  if (ids.length === 0) return 0;
  const result = await db
    .deleteFrom("notification_subscriptions")
    .where("subscriber_id", "=", subscriberId)
    .where("id", "in", [...ids])
    .executeTakeFirst();
  return Number(result.numDeletedRows);
};
