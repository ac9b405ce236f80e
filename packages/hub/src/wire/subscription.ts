import type { SubscriptionRow } from "@rootstock/store";
import { some, time } from "./fields.ts";

/** A notification subscription as clients see it (spec/02 5.1). */
export interface SubscriptionJson {
  readonly id: string;
  readonly scope: "agent" | "project";
  readonly agentId?: string;
  readonly agentSlug?: string;
  readonly subscriberType: "agent" | "user";
  readonly subscriberId: string;
  readonly projectId: string;
  readonly groveId: string;
  readonly triggerActivities: readonly string[];
  readonly createdAt: string;
  readonly createdBy: string;
}

/** The subscription; lists know the agent's slug too. */
export const subscriptionJson = (s: SubscriptionRow & { readonly agent_slug?: string | null }): SubscriptionJson => ({
  id: s.id,
  scope: s.scope,
  ...some("agentId", s.agent_id),
  ...some("agentSlug", s.agent_slug),
  subscriberType: s.subscriber_type,
  subscriberId: s.subscriber_id,
  projectId: s.project_id,
  groveId: s.project_id,
  triggerActivities: s.trigger_activities,
  createdAt: time(s.created),
  createdBy: s.created_by,
});
