import { HubError, parseUuid } from "@rootstock/protocol";
import type { AuditEvent } from "@rootstock/store";
import type { Resource } from "../auth/index.ts";
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
  const hidden = refusal instanceof Hidden ? refusal : undefined;
  const inPath = parseUuid(params.projectId?.split("__", 1)[0] ?? "");
  return {
    action: "access_denied",
    reason: hidden ? hidden.reason : refusal.message,
    projectId: inPath,
    ...((hidden?.resource && whatIsHidden(hidden.resource)) ?? whatIsNamed(route, params)),
    details: {
      method: route.method,
      route: route.path,
      does: doesName(route.does),
      ...(hidden && { hidden: true }),
    },
  };
};

type Target = Pick<AuditEvent, "targetType" | "targetId" | "targetName" | "projectId">;

const whatIsNamed = (route: Declared, params: Readonly<Record<string, string>>): Target => {
  const [targetType, param] = TARGETS[route.does.on] ?? ["hub", ""];
  const named = params[param]?.split("__", 1)[0];
  const targetId = parseUuid(named ?? "");
  return { targetType, ...(targetId === undefined ? { targetName: named } : { targetId }) };
};

/** Wherever it was named; undefined for what has no id. */
const whatIsHidden = (resource: Resource): Target | undefined => {
  if (resource.kind === "hub") return undefined;
  const projectId = projectOf(resource);
  return {
    targetType: TARGETS[resource.kind]?.[0] ?? resource.kind,
    targetId: resource.id,
    ...(projectId !== undefined && { projectId }),
  };
};

const projectOf = (resource: Exclude<Resource, { kind: "hub" }>): string | undefined => {
  if (resource.kind === "project") return resource.id;
  if (resource.kind === "agent") return resource.projectId;
  return "project" in resource ? resource.project?.id : undefined;
};

/** Codes of 403 that are told as something else: who is not let in is no caller yet. */
const TOLD_APART: ReadonlySet<string> = new Set(["unauthorized_domain", "identity_not_linked"]);

/** Whether an error is a refusal that {@link refusalEvent} tells of: 403, or 404 for what is there and hidden. */
export const isRefusal = (err: unknown): err is HubError =>
  err instanceof Hidden || (err instanceof HubError && err.status === 403 && !TOLD_APART.has(err.code));
