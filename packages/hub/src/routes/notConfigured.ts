import { HubError } from "@rootstock/protocol";
import { z } from "zod";
import { capabilities, capabilitiesJson, LIST_ACTIONS } from "../wire/index.ts";
import { type AccessRule, admins, anyone, authenticated } from "./access.ts";
import { NOTHING, PUBLIC } from "./does.ts";
import { json, type Route, route } from "./route.ts";

/**
 * What this hub does not have. Lists that clients look through on the way to something else are empty; everything else
 * says so with 501, because a plain 404 would make older clients repeat the call and blame the resource. What only ever
 * answers so is not in the document of the API: it is nothing that this hub does.
 * These routes stand behind all others: a path that one of those serves never comes here.
 */

const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"] as const;

const refused = (path: string, what: string, access: AccessRule = authenticated): Route[] =>
  METHODS.map((method) =>
    route({
      method,
      path,
      access,
      does: access === anyone ? PUBLIC : NOTHING,
      documented: false,
      summary: "Not configured on this hub",
      replies: {},
      refuses: ["not_implemented"],
      handler: () => {
        throw new HubError("not_implemented", `${what} not configured on this hub`);
      },
    }),
  );

/** Everything at `path` and below it. */
const refusedBelow = (path: string, what: string, access?: AccessRule): Route[] => [
  ...refused(path, what, access),
  ...refused(`${path}/*`, what, access),
];

/** A list that is always empty. */
const emptyList = (path: string, name: string): Route =>
  route({
    method: "GET",
    path,
    access: authenticated,
    does: NOTHING,
    summary: "A list that is always empty",
    replies: {
      200: z.object({ [name]: z.array(z.unknown()), totalCount: z.literal(0), _capabilities: capabilitiesJson }),
    },
    handler: () =>
      json(200, { [name]: [], totalCount: 0, _capabilities: capabilities(LIST_ACTIONS.template, (a) => a === "list") }),
  });

const RUNTIME_BROKER = "/api/v1/runtime-brokers/:brokerId";
const AGENT = "/api/v1/agents/:agentId";
const PROJECT = "/api/v1/projects/:projectId";
const PROJECT_AGENT = `${PROJECT}/agents/:agentId`;

/** Sub-paths of a project, and what they would need. */
const PROJECT_PARTS = [
  ["env", "stored environment values are"],
  ["secrets", "secrets are"],
  ["gcp-service-accounts", "GCP identity is"],
  ["scheduled-events", "schedules are"],
  ["schedules", "schedules are"],
  ["workspace", "files on the hub are"],
  ["sync", "workspace transfer is"],
  ["dav", "files on the hub are"],
  ["import-templates", "templates are"],
  ["import-harness-configs", "harness configs are"],
  ["message-logs", "cloud logging is"],
  ["git-identity", "GitHub is"],
  ["github-installation", "GitHub is"],
  ["github-permissions", "GitHub is"],
  ["github-status", "GitHub is"],
] as const;

/** The routes of parts that this hub does not have. They come last. */
export const notConfiguredRoutes = (): Route[] => [
  emptyList("/api/v1/templates", "templates"),
  emptyList("/api/v1/harness-configs", "harnessConfigs"),
  emptyList("/api/v1/skills", "skills"),
  route({
    method: "GET",
    path: "/api/v1/notifications/templates",
    access: authenticated,
    does: NOTHING,
    summary: "A list that is always empty",
    replies: { 200: z.array(z.unknown()).max(0) },
    handler: () => json(200, []),
  }),
  ...refusedBelow("/api/v1/notifications/templates", "subscription templates are"),
  ...refusedBelow("/api/v1/templates", "templates are"),
  ...refusedBelow("/api/v1/harness-configs", "harness configs are"),
  ...refusedBelow("/api/v1/skills", "skills are"),
  ...refusedBelow("/api/v1/env", "stored environment values are"),
  ...refusedBelow("/api/v1/secrets", "secrets are"),
  ...refusedBelow("/api/v1/admin", "administration is", admins),
  ...refusedBelow("/api/v1/agent/gcp-token", "GCP identity is"),
  ...refusedBelow("/api/v1/agent/gcp-identity-token", "GCP identity is"),
  ...refusedBelow("/api/v1/github-app", "GitHub is"),
  ...refused("/api/v1/auth/ws-ticket", "tickets for WebSockets, which take the credentials of any other call, are"),
  ...["env", "secrets"].flatMap((part) =>
    refusedBelow(`${RUNTIME_BROKER}/${part}`, "stored environment values and secrets are"),
  ),
  ...refused(`${AGENT}/refresh-token`, "GitHub is"),
  ...PROJECT_PARTS.flatMap(([name, what]) => refusedBelow(`${PROJECT}/${name}`, what)),
  ...refusedBelow(`${PROJECT}/shared-dirs/:name/files`, "files on the hub are"),
  ...refused(`${PROJECT}/shared-dirs/:name/archive`, "files on the hub are"),
  ...[AGENT, PROJECT_AGENT].flatMap((agent) => [
    ...refusedBelow(`${agent}/cloud-logs`, "cloud logging is"),
    ...refusedBelow(`${agent}/message-logs`, "cloud logging is"),
    ...refusedBelow(`${agent}/secrets`, "secrets are"),
    ...refusedBelow(`${agent}/workspace`, "workspace transfer is"),
  ]),
];
