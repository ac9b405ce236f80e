import { HubError, parseUuid } from "@rootstock/protocol";
import type { AuditEvent } from "@rootstock/store";
import { type Declared, doesName } from "./does.ts";
import { Hidden } from "./hidden.ts";

/** Which of a path's parameters names what a route is about, by what it declares; and how the audit log calls that. */
const TARGETS: Readonly<Record<string, readonly [type: string, param: string]>> = {
  project: ["project", "projectId"],
  agent: ["agent", "agentId"],
  runtimeBroker: ["runtime_broker", "brokerId"],
  group: ["group", "groupId"],
  policy: ["policy", "policyId"],
  user: ["user", "userId"],
};

/** What the audit log tells of a call that its caller may not make, wherever that was found out. Nothing that was sent. */
export const refusalEvent = (
  route: Declared,
  params: Readonly<Record<string, string>>,
  refusal: HubError,
): Omit<AuditEvent, "success"> => {
  const [targetType, param] = TARGETS[route.does.on] ?? ["hub", ""];
  const named = params[param]?.split("__", 1)[0];
  const targetId = parseUuid(named ?? "");
  return {
    action: "access_denied",
    reason: refusal instanceof Hidden ? refusal.reason : refusal.message,
    targetType,
    ...(targetId === undefined ? { targetName: named } : { targetId }),
    projectId: parseUuid(params.projectId?.split("__", 1)[0] ?? ""),
    details: {
      method: route.method,
      route: route.path,
      does: doesName(route.does),
      ...(refusal instanceof Hidden && { hidden: true }),
    },
  };
};

/** Codes of 403 that are told as something else: who is not let in is no caller yet. */
const TOLD_APART: ReadonlySet<string> = new Set(["unauthorized_domain"]);

/** Whether an error is a refusal that {@link refusalEvent} tells of: 403, or 404 for what is there and hidden. */
export const isRefusal = (err: unknown): err is HubError =>
  err instanceof Hidden || (err instanceof HubError && err.status === 403 && !TOLD_APART.has(err.code));
