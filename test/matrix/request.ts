import { request as httpRequest } from "node:http";
import type { Route, UpgradeRoute } from "@rootstock/hub";
import { ApiReply, sampleOf } from "@rootstock/testkit";
import type { Caller, Sent } from "./callers.ts";
import type { World } from "./world.ts";

export type AnyRoute = Route | UpgradeRoute;

const isUpgrade = (route: AnyRoute): route is UpgradeRoute => !("handler" in route);

/** Bodies that mean something here; for all others the smallest that the route's schema reads does. */
const bodies = (world: World): Readonly<Record<string, unknown>> => {
  const { projectId, principalType, principalId } = world.params;
  const message = { structured_message: { msg: "hello" } };
  return {
    "POST /api/v1/agents": { name: "new-agent", projectId },
    "POST /api/v1/agents/:agentId/message": message,
    "POST /api/v1/projects/:projectId/agents/:agentId/message": message,
    "POST /api/v1/projects/:projectId/broadcast": message,
    "POST /api/v1/broker/inbound": {
      topic: `scion.project.${projectId}.agent.target.messages`,
      message: { msg: "hello" },
    },
    "POST /api/v1/notifications/subscriptions": { scope: "project", projectId, triggerActivities: ["blocked"] },
    "POST /api/v1/projects/:projectId/providers": { brokerId: world.params.brokerId },
    "POST /api/v1/auth/tokens": { name: "more", projectId, scopes: ["agent:read"] },
    "POST /api/v1/auth/invite/redeem": { code: world.params.inviteCode },
    "POST /api/v1/admin/allow-list": { email: "new@example.org" },
    "POST /api/v1/admin/allow-list/import": { emails: [{ email: "new@example.org" }] },
    "POST /api/v1/admin/invites": { expiresIn: "24h", maxUses: 1 },
    "POST /api/v1/agents/:agentId/status": { activity: "thinking" },
    "POST /api/v1/projects/:projectId/agents/:agentId/status": { activity: "thinking" },
    "POST /api/v1/groups": { name: "new group" },
    "POST /api/v1/groups/:groupId/members": { memberType: "user", memberId: world.people.mel.id },
    "PATCH /api/v1/groups/:groupId": { description: "changed" },
    "POST /api/v1/policies": { name: "new", scopeType: "hub", actions: ["read"], effect: "allow" },
    "PATCH /api/v1/policies/:policyId": { priority: 1 },
    "POST /api/v1/policies/:policyId/bindings": { principalType, principalId },
    "POST /api/v1/policies/evaluate": {
      ...{ principalType, principalId, action: "read" },
      ...{ resourceType: "project", resourceId: projectId },
    },
    "PATCH /api/v1/agents/:agentId": { name: "renamed" },
    "PATCH /api/v1/projects/:projectId/agents/:agentId": { name: "renamed" },
    "PATCH /api/v1/projects/:projectId": { name: "renamed" },
    "PATCH /api/v1/runtime-brokers/:brokerId": { name: "renamed" },
  };
};

/** What no world has one of: no notification is made yet, and no reset of all agents begun. */
const NEVER_THERE = ["notificationId", "resetId"];

/** The path's parameters that the world has nothing for: the row would say 404 for want of anything to hide. */
export const unnamed = (world: World, route: AnyRoute): readonly string[] =>
  route.does.on === "nothing" || route.does.on === "public"
    ? []
    : [...route.path.matchAll(/:(\w+)/g)]
        .map(([, name = ""]) => name)
        .filter((name) => world.params[name] === undefined && !NEVER_THERE.includes(name));

const QUERIES: Readonly<Record<string, string>> = { "GET /events": "sub=%3E" };

/** Nothing has it. */
const NOBODY = "11111111-1111-4111-8111-111111111111";

export const nameOf = (route: Pick<AnyRoute, "method" | "path">): string => `${route.method} ${route.path}`;

/** Whether the answer of a granted call never ends by itself. */
const isStream = (route: AnyRoute): boolean => /\/(events|stream)$/.test(route.path);

/** Calls the route as this caller, about what the world has of its kind. */
export const call = async (world: World, route: AnyRoute, caller: Caller): Promise<ApiReply> => {
  const path = route.path.replace(/:(\w+)/g, (_, name: string) => world.params[name] ?? NOBODY).replace("*", "x");
  const text = isUpgrade(route) || route.method === "GET" ? "" : bodyOf(world, route);
  const query = QUERIES[nameOf(route)] ?? "";
  const sent: Sent = { method: route.method, path, query, body: Buffer.from(text) };
  const headers = { ...(await caller.headers(sent)), ...(text && { "content-type": "application/json" }) };
  const url = `${world.replica.url}${path}${query && `?${query}`}`;
  if (isUpgrade(route)) return upgrade(url, headers);
  const response = await fetch(url, { method: route.method, headers, ...(text && { body: text }), redirect: "manual" });
  if (isStream(route) && response.ok) {
    await response.body?.cancel();
    return new ApiReply(response.status, response.headers, "");
  }
  return new ApiReply(response.status, response.headers, await response.text());
};

const bodyOf = (world: World, route: Route): string => {
  const body = bodies(world)[nameOf(route)] ?? (route.body && sampleOf(route.body));
  return body === undefined ? "" : JSON.stringify(body);
};

/** The answer to an upgrade: 101 when it is granted. */
const upgrade = (url: string, headers: Readonly<Record<string, string>>): Promise<ApiReply> =>
  new Promise((resolve, reject) => {
    const asked = httpRequest(url, {
      headers: {
        ...headers,
        connection: "Upgrade",
        upgrade: "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": Buffer.alloc(16).toString("base64"),
      },
    });
    asked.on("error", reject);
    asked.on("upgrade", (response, socket) => {
      socket.destroy();
      resolve(new ApiReply(response.statusCode ?? 0, new Headers(), ""));
    });
    asked.on("response", (response) => {
      const parts: Buffer[] = [];
      response.on("data", (part: Buffer) => parts.push(part));
      response.on("end", () =>
        resolve(new ApiReply(response.statusCode ?? 0, new Headers(), Buffer.concat(parts).toString("utf8"))),
      );
    });
    asked.end();
  });
