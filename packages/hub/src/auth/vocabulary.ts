/**
 * The words of access: what may be done, and to what. Routes declare them, policies and tokens name them, and `decide`
 * knows no others. Spec/03 5.1, with finer words where the routes need them.
 */

/** What may be done. */
export const ACTIONS = [
  "create",
  "read",
  "update",
  "delete",
  "list",
  /** What is beside the thing itself: service accounts of a project, sharing. */
  "manage",
  /** What of `lifecycle` only starts, and only stops: a token may allow the one without the other. */
  "start",
  "stop",
  "message",
  /** Terminal, exec: what shows or types into an agent's inside. */
  "attach",
  "register",
  "addMember",
  "removeMember",
  /** Run agents on a runtime broker. */
  "dispatch",
  "stop_all",
  "verify",
  "mint",
  /** Start, stop, suspend, resume, restart, restore: `start` and `stop` both. */
  "lifecycle",
  /** Reports of an agent about itself. */
  "report",
  /** New tokens for an agent. */
  "refresh",
  /** A new secret for a runtime broker. */
  "rotate",
] as const;

export type Action = (typeof ACTIONS)[number];

/** What it may be done to. The name is what policies say, but for `runtimeBroker`, which they call `broker`. */
export const RESOURCE_KINDS = [
  /** The hub itself: settings, invites, the allow list, maintenance, audit. */
  "hub",
  "project",
  "agent",
  "group",
  "policy",
  "user",
  "template",
  "harness_config",
  "skill",
  "gcp_service_account",
  /** Values for containers. They are never covered by a policy for everything: one must name them. */
  "env",
  "secret",
  "runtimeBroker",
  /** Values for the containers of one runtime broker; likewise. */
  "runtime_broker",
] as const;

export type ResourceKind = (typeof RESOURCE_KINDS)[number];
