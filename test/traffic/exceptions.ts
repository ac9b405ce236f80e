import type { Finding } from "./findings.ts";

/** A difference from the recording that is wanted. `*` in `where` and `what` stands for anything. */
export interface Exception {
  readonly where: string;
  readonly what: string;
  readonly reason: string;
}

const NO_STORED_VALUES = "values stored at the hub come later; those gathered from the person are kept per agent";
const NO_HARNESS_CONFIGS =
  "a hub without stored harness configs sends neither their ids nor hashes (the runtime broker uses its own)";
const NO_NOTIFICATIONS = "subscriptions are kept, notifications are sent later";
const FROM_ANYWHERE = "logs come from any replica; the original knows only its own sockets (spec/01 6.1)";
const PROJECT_RESET =
  "the route that the CLI calls exists here (spec/02 9.7), so that it does not come to the other one";
const NEW_RUN = "a new run begins without what the run before left: a kept activity looks like readiness (spec/02 10)";
const STOPPED =
  "an activity that implies running ends with the run (spec/01 5.2); the original answers from an older copy";
const BEFORE_LINK = "counted after the runtime broker was linked with a path of its own, not before (spec/04: linked)";
const SOCKET_STATE = "tells of the socket, which comes later; never maintained in the original (spec/01 8)";
const ONE_SUBSCRIPTION =
  "one subscription per subscriber and agent, widened by later ones; the original keeps doubles (spec/02 10)";
const NO_TRANSFORM = "keeps proxies from compressing, and so from holding back, a stream";

/** Every wanted difference. One that no recording needs any more fails the test. */
export const EXCEPTIONS: readonly Exception[] = [
  // Not there yet.
  { where: "PUT /api/v1/env/*", what: "status is 501 for 200", reason: NO_STORED_VALUES },
  { where: "DELETE /api/v1/env/*", what: "status is 501 for 204", reason: NO_STORED_VALUES },
  { where: "hub: POST /api/v1/agents", what: "body.envSources is missing", reason: NO_STORED_VALUES },
  {
    where: "hub: POST /api/v1/agents*",
    what: "body.resolvedEnv.GEMINI_API_KEY is missing",
    reason: NO_STORED_VALUES,
  },
  { where: "GET /api/v1/harness-configs/*", what: "status is 501 for 200", reason: NO_HARNESS_CONFIGS },
  { where: "*", what: "body*onfig.harnessConfigId is missing", reason: NO_HARNESS_CONFIGS },
  { where: "*", what: "body*onfig.harnessConfigHash is missing", reason: NO_HARNESS_CONFIGS },
  {
    where: "POST /api/v1/projects/:id/scheduled-events",
    what: "status is 501 for 201",
    reason: "schedules come later",
  },
  { where: "GET /api/v1/notifications", what: "body has 0 elements for 1", reason: NO_NOTIFICATIONS },
  { where: "GET /api/v1/messages", what: "body.items has 0 elements for 2", reason: NO_NOTIFICATIONS },
  { where: "event: notification.created", what: "does not come", reason: NO_NOTIFICATIONS },
  { where: "event: project.:id.notification", what: "does not come", reason: NO_NOTIFICATIONS },
  { where: "event: project.:id.user.message", what: "does not come", reason: NO_NOTIFICATIONS },
  { where: "event: message input-needed", what: "does not come", reason: NO_NOTIFICATIONS },
  { where: "GET /healthz", what: "body.web is missing", reason: "no web server stands in front of the hub" },

  // Answers with a body, and truthful ones.
  {
    where: "POST /api/v1/projects/:id/agents/:id/message",
    what: "body is not empty",
    reason: "newer clients fail on an empty answer (spec/08 1.2)",
  },
  {
    where: "POST /api/v1/agents/:id/status",
    what: "body is not empty",
    reason: "JSON wherever an empty body was enough (spec/08 0.2)",
  },
  {
    where: "POST /api/v1/projects/:id/agents/:id/message",
    what: "status is 200 for 202",
    reason: "200 when the runtime broker has acknowledged it, through whichever replica it was sent",
  },

  // Works here.
  {
    where: "GET /api/v1/message-channels",
    what: "status is 200 for 404",
    reason: "the CLI calls it; unrouted in the original (spec/02 9.7)",
  },
  { where: "POST /api/v1/projects/:id/agents/:id/reset-auth", what: "status is 200 for 404", reason: PROJECT_RESET },
  { where: "hub: POST /api/v1/agents/:id/reset-auth", what: "is asked beyond the recording", reason: PROJECT_RESET },
  { where: "GET /api/v1/projects/:id/agents/:id/logs", what: "status is 200 for 502", reason: FROM_ANYWHERE },
  { where: "hub: GET /api/v1/agents/:id/logs", what: "is asked beyond the recording", reason: FROM_ANYWHERE },
  {
    where: "hub: POST /api/v1/agents/:id/message",
    what: "body.message is missing",
    reason: "a message keeps its structure on every path; the original forwards bare text (spec/01 8)",
  },
  {
    where: "*/api/v1/projects/:id/agents/:id*",
    what: 'body*.template is "default" for ""',
    reason: "what the runtime broker said of the agent is kept on every path; the original forgets it when it forwards",
  },

  {
    where: "POST /api/v1/auth/cli/device",
    what: "status is 200 for 501",
    reason: "a program's code is typed at the hub itself, which needs no provider (spec/03 3.3)",
  },

  // Truth instead of an older copy.
  { where: "POST /api/v1/projects/:id/agents", what: "body.agent.activity is missing", reason: NEW_RUN },
  { where: "POST /api/v1/projects/:id/agents", what: "body.agent.message is missing", reason: NEW_RUN },
  { where: "POST /api/v1/projects/:id/agents", what: "body.agent.startedAt is unset", reason: NEW_RUN },
  { where: "POST /api/v1/projects/:id/agents/:id/stop", what: "body.activity is missing", reason: STOPPED },
  { where: "POST /api/v1/projects/:id/agents/:id/restore", what: "body.activity is missing", reason: STOPPED },
  { where: "GET /api/v1/projects/:id/agents", what: "body.agents.0.activity is missing", reason: STOPPED },
  {
    where: "POST /api/v1/projects/register",
    what: 'body.*.projectType is "linked" for "hub-managed"',
    reason: BEFORE_LINK,
  },
  {
    where: "POST /api/v1/projects/register",
    what: 'body.broker.connectionState is "disconnected" for "connected"',
    reason: SOCKET_STATE,
  },
  {
    where: "GET /api/v1/runtime-brokers/:id",
    what: 'body.connectionState is "disconnected" for "connected"',
    reason: SOCKET_STATE,
  },
  {
    where: "event: project.:id.agent.created",
    what: 'data.data.phase is "created" for "provisioning"',
    reason: "an event belongs to the transaction that it tells of; the original sends it after the dispatch",
  },
  {
    where: "event: project.:id.agent.status",
    what: "is not repeated",
    reason: "a report that changes nothing visible is no event (design 6); the original repeats all in every heartbeat",
  },
  { where: "POST /api/v1/notifications/subscriptions", what: "status is 200 for 201", reason: ONE_SUBSCRIPTION },
  {
    where: "GET /api/v1/notifications/subscriptions",
    what: "body has 4 elements for 9",
    reason: ONE_SUBSCRIPTION,
  },

  // Closed doors.
  {
    where: "*/api/v1/projects/:id/agents*",
    what: "body*.appliedConfig.env is missing",
    reason: "values resolved for the container are not written into the agent's record (spec/01 8)",
  },
  {
    where: "hub: POST /api/v1/agents",
    what: "body.resolvedEnv.SCION_DEV_TOKEN is missing",
    reason: "an agent has a token of its own; the development token would make it an admin",
  },
  {
    where: "GET /events",
    what: "status is 401 for 200",
    reason: "who shows no credentials is nobody, with development login too (spec/03 7.8)",
  },

  // Connections.
  { where: "GET /events", what: "header cache-control is no-cache, no-transform for *", reason: NO_TRANSFORM },
  {
    where: "GET /api/v1/agents/:id/messages/stream",
    what: "header cache-control is no-cache, no-transform for *",
    reason: NO_TRANSFORM,
  },
  {
    where: "hub: close",
    what: "code is 1012 for 1000",
    reason: "a replica that goes away says that it is a restart (design 9)",
  },
  {
    where: "hub: close",
    what: "code is 1013 for 1000",
    reason: "the close is answered with its own code before the next connection displaces the socket",
  },
  {
    where: "hub: close",
    what: "code is 1006 for 1000",
    reason: "the recording proxy ended what it had dropped itself",
  },
];

const matches = (pattern: string, text: string): boolean =>
  new RegExp(`^${pattern.split("*").map(escaped).join(".*")}$`, "s").test(text);

const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** Whether an exception covers a finding. */
export const covers = (exception: Exception, finding: Finding): boolean =>
  matches(exception.where, finding.where) && matches(exception.what, finding.what);
