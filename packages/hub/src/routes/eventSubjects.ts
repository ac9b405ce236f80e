import type { HubEvent } from "../bus/index.ts";
import { usersAndAgents } from "./access.ts";
import type { Declared, Does } from "./does.ts";

/** What the event stream tells, declared like routes: to hear of a thing takes what reading it takes. */
export interface EventSubject extends Declared {
  readonly method: "SSE";
}

const subject = (path: string, does: Does): EventSubject => ({ method: "SSE", path, access: usersAndAgents, does });

/** By the kind of event. One that is not declared does not compile, and so tells nobody. */
export const EVENT_SUBJECTS: Readonly<Record<Exclude<HubEvent["entity"], "sight">, EventSubject>> = {
  agent: subject("agent.:agentId.*", { action: "read", on: "agent" }),
  project: subject("project.:projectId.*", { action: "read", on: "project" }),
  provider: subject("project.:projectId.broker.status", { action: "read", on: "project" }),
  runtime_broker: subject("broker.:brokerId.status", { action: "read", on: "runtimeBroker" }),
  message: subject("user.:userId.message", { action: "read", on: "self" }),
  user: subject("user.:userId.changed", { action: "read", on: "self" }),
  allow_list: subject("admin.allowlist.changed", { action: "read", on: "hub" }),
  invite: subject("admin.invite.changed", { action: "read", on: "hub" }),
  maintenance: subject("admin.maintenance.changed", { action: "read", on: "hub" }),
  access: subject("access.*.changed", { action: "read", on: "hub" }),
  credential: subject("credential.:id.ended", { action: "read", on: "hub" }),
};
