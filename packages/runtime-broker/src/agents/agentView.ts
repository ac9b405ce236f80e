import type { SessionState } from "../runtimes/runtime.ts";
import type { AgentRecord } from "./agentRecord.ts";

/** A profile that a runtime broker offers, as the hub shows it (spec/01 1.1). */
export interface Profile {
  readonly name: string;
  readonly type: string;
  readonly available: boolean;
}

/** The only profile: whatever the configured runtime is. */
export const PROFILE = "local";

/** The phase on the wire: what the session is, where there is one that the record does not know better about. */
export const phaseOf = (record: AgentRecord, session: SessionState | undefined): string => {
  if (session?.status === "running") return record.phase === "stopping" ? "stopping" : "running";
  if (record.phase === "stopping") return "stopped";
  if (record.phase === "running" || record.phase === "starting") {
    return session?.status === "exited" && session.exitCode === 0 ? "stopped" : "error";
  }
  return record.phase;
};

const time = (ms: number): string => new Date(ms).toISOString();

/**
 * The Agent object (spec/01 4.1). In answers to a create or start with a session the original leaves out the id, and the
 * hub takes an id for the container's: so does `launched`.
 */
export const agentView = (
  record: AgentRecord,
  session: SessionState | undefined,
  runtime: string,
  options: { readonly launched?: boolean } = {},
): Record<string, unknown> => {
  const phase = phaseOf(record, session);
  return {
    ...(record.id && !options.launched && { id: record.id }),
    slug: record.slug,
    ...(session && { containerId: session.sessionId }),
    name: record.name,
    ...(record.template && { template: record.template }),
    harnessConfig: record.harness,
    ...(record.harnessAuth && { harnessAuth: record.harnessAuth }),
    ...(record.image && { image: record.image }),
    runtime,
    profile: record.profile,
    projectId: record.projectId,
    groveId: record.projectId,
    ...(record.userId && { userId: record.userId }),
    status: phase,
    phase,
    ready: session?.status === "running",
    ...(session && { containerStatus: session.statusText }),
    config: {
      ...(record.template && { template: record.template }),
      ...(record.image && { image: record.image }),
    },
    ...(session && {
      runtimeInfo: {
        containerId: session.sessionId,
        ...(session.status === "running" && session.since !== undefined && { startedAt: time(session.since) }),
      },
    }),
    labels: record.labels,
    createdAt: time(record.createdAt),
    updatedAt: time(record.updatedAt),
  };
};
