import type { SubscriptionRow } from "@rootstock/store";
import { z } from "zod";
import { some, time } from "./fields.ts";
import { id, timestamp } from "./schemas.ts";

/** A notification subscription as clients see it (spec/02 5.1). */
export const subscriptionReply = z
  .object({
    id: id,
    scope: z.enum(["agent", "project"]),
    agentId: z.string().optional(),
    agentSlug: z.string().optional(),
    subscriberType: z.enum(["agent", "user"]),
    subscriberId: z.string(),
    projectId: id,
    groveId: id,
    triggerActivities: z.array(z.string()).readonly(),
    createdAt: timestamp,
    createdBy: z.string(),
  })
  .meta({ id: "Subscription" });
export type SubscriptionJson = z.infer<typeof subscriptionReply>;

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
