import { HubError, invalidField, notFound, parseUuid, type Uuid } from "@rootstock/protocol";
import type { Random } from "@rootstock/service";
import {
  agentById,
  countSubscriptions,
  createSubscription,
  type Db,
  deleteSubscriptions,
  isForeignKeyViolation,
  listSubscriptions,
  projectRow,
  type SubscriptionRow,
  setSubscriptionTriggers,
  subscriptionById,
} from "@rootstock/store";
import { z } from "zod";
import type { UserPrincipal } from "../auth/index.ts";
import { statusReply, subscriptionJson, subscriptionReply } from "../wire/index.ts";
import { users } from "./access.ts";
import { createOnce, type ResourceDeps } from "./deps.ts";
import { text } from "./fields.ts";
import { optionalUuid } from "./lookup.ts";
import { agentResource, projectResource, readable, withFacts } from "./rights.ts";
import { type Call, empty, json, type Route, route } from "./route.ts";
import { NO_BODY } from "./shapes.ts";

/** More than anybody reads, and few enough that one person cannot fill the table. */
const MAX_SUBSCRIPTIONS = 1000;

const triggerActivities = z.array(z.string().trim().min(1).max(64)).min(1).max(32);

const subscriptionBody = z.object({
  scope: z.enum(["agent", "project"]),
  agentId: text(64),
  projectId: z.string().min(1).max(64),
  triggerActivities,
});
type SubscriptionBody = z.output<typeof subscriptionBody>;

const nothing = z.array(z.unknown()).max(0);
const notificationsReply = z.union([nothing, z.object({ userNotifications: nothing, agentNotifications: nothing })]);

/**
 * Notifications (spec/02 section 5). Subscriptions are kept; nothing is sent yet, so that there are no notifications to
 * list or to acknowledge. Lists are bare arrays.
 */
export const notificationRoutes = (deps: ResourceDeps): Route[] => [
  route({
    method: "GET",
    path: "/api/v1/notifications",
    access: users,
    does: { action: "list", on: "self" },
    query: z.object({ agentId: z.string().optional() }),
    summary: "Notifications of the caller: none are sent yet",
    replies: { 200: notificationsReply },
    handler: (call) => json(200, call.query.agentId ? { userNotifications: [], agentNotifications: [] } : []),
  }),
  route({
    method: "POST",
    path: "/api/v1/notifications/ack-all",
    access: users,
    does: { action: "update", on: "self" },
    summary: "Acknowledges all notifications",
    replies: { 200: statusReply("ok") },
    handler: () => json(200, { status: "ok" }),
  }),
  route({
    method: "POST",
    path: "/api/v1/notifications/:notificationId/ack",
    access: users,
    does: { action: "update", on: "self" },
    summary: "Acknowledges a notification",
    replies: {},
    handler: () => {
      throw notFound("Notification");
    },
  }),
  route({
    method: "GET",
    path: "/api/v1/notifications/subscriptions",
    access: users,
    does: { action: "list", on: "self" },
    query: z.object({
      projectId: z.string().optional(),
      groveId: z.string().optional(),
      agentId: z.string().optional(),
      scope: z.enum(["agent", "project"]).optional().catch(undefined),
    }),
    summary: "What the caller has subscribed to",
    replies: { 200: z.array(subscriptionReply) },
    handler: async (call) => {
      const rows = await listSubscriptions(deps.db, {
        subscriberId: user(call).id,
        projectId: optionalUuid("projectId", call.query.projectId || call.query.groveId),
        agentId: optionalUuid("agentId", call.query.agentId),
        scope: call.query.scope,
      });
      return json(200, rows.map(subscriptionJson));
    },
  }),
  route({
    method: "POST",
    path: "/api/v1/notifications/subscriptions",
    access: users,
    does: { action: "create", on: "self" },
    body: subscriptionBody,
    summary: "Subscribes to an agent or a project",
    replies: { 200: subscriptionReply, 201: subscriptionReply },
    refuses: ["bad_request", "limit_exceeded", "conflict"],
    handler: async (call) => {
      const subscriber = await withFacts(user(call));
      try {
        return await createOnce(deps, call, async (tx) => {
          const { row, created } = await subscribe(tx, deps.random, subscriber, call.body);
          return { status: created ? 201 : 200, body: subscriptionJson(row) };
        });
      } catch (err) {
        if (!isForeignKeyViolation(err)) throw err;
        throw new HubError("bad_request", "the agent or the project was deleted meanwhile", { cause: err });
      }
    },
  }),
  route({
    method: "PATCH",
    path: "/api/v1/notifications/subscriptions/:subscriptionId",
    access: users,
    does: { action: "update", on: "self" },
    body: z.object({ triggerActivities }),
    summary: "Changes what a subscription is about",
    replies: { 200: subscriptionReply },
    handler: async (call) => {
      const { id } = await own(deps, call);
      const row = await setSubscriptionTriggers(deps.db, id, call.body.triggerActivities);
      if (!row) throw notFound("Subscription");
      deps.changed();
      return json(200, subscriptionJson(row));
    },
  }),
  route({
    method: "DELETE",
    path: "/api/v1/notifications/subscriptions/:subscriptionId",
    access: users,
    does: { action: "delete", on: "self" },
    summary: "Ends a subscription",
    replies: { 204: NO_BODY },
    handler: async (call) => {
      const { id } = await own(deps, call);
      if ((await deleteSubscriptions(deps.db, user(call).id, [id])) === 0) throw notFound("Subscription");
      deps.changed();
      return empty();
    },
  }),
];

const user = (call: Pick<Call, "principal">): UserPrincipal => {
  if (call.principal.kind !== "user") throw new HubError("forbidden", "only users have notifications");
  return call.principal;
};

const own = async (deps: ResourceDeps, call: Pick<Call, "principal" | "params">): Promise<SubscriptionRow> => {
  const id = parseUuid(call.params.subscriptionId ?? "");
  const row = id && (await subscriptionById(deps.db, id));
  if (!row) throw notFound("Subscription");
  if (row.subscriber_type !== "user" || row.subscriber_id !== user(call).id)
    throw new HubError("forbidden", "this subscription is somebody else's");
  return row;
};

const subscribe = async (tx: Db, random: Random, subscriber: UserPrincipal, body: SubscriptionBody) => {
  const projectId = optionalUuid("projectId", body.projectId);
  const project = await readable(
    subscriber,
    projectId === undefined ? undefined : await projectRow(tx, projectId),
    projectResource,
    invalidField("projectId", "there is no such project"),
  );
  const agentId = await agentOfBody(tx, subscriber, project.id, body);
  if ((await countSubscriptions(tx, subscriber.id)) >= MAX_SUBSCRIPTIONS)
    throw new HubError("limit_exceeded", `a user may have ${MAX_SUBSCRIPTIONS} subscriptions`);
  return createSubscription(tx, {
    id: random.uuid(),
    agentId,
    projectId: project.id,
    subscriber: { type: "user", id: subscriber.id },
    triggerActivities: body.triggerActivities,
  });
};

const agentOfBody = async (
  tx: Db,
  subscriber: UserPrincipal,
  projectId: Uuid,
  body: SubscriptionBody,
): Promise<Uuid | undefined> => {
  const agentId = optionalUuid("agentId", body.agentId);
  if (body.scope === "project") {
    if (agentId === undefined) return undefined;
    throw new HubError("bad_request", "agentId must be empty when scope is 'project'");
  }
  if (agentId === undefined) throw new HubError("bad_request", "agentId is required when scope is 'agent'");
  const unknown = invalidField("agentId", "there is no such agent in this project");
  const agent = await readable(subscriber, await agentById(tx, agentId), agentResource, unknown);
  if (agent.project_id !== projectId) throw unknown;
  return agentId;
};
