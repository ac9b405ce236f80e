import type { Labels, ProjectView, ProviderView, SharedDir } from "@rootstock/store";
import type { Capabilities } from "./capabilities.ts";
import { some, time, timeOrZero } from "./fields.ts";

/** A project as clients see it (spec/02 3.1), with the names of older clients beside today's. */
export interface ProjectJson {
  readonly id: string;
  /** The copy of `id` that today's clients read (spec/08 1.3). */
  readonly projectId: string;
  readonly name: string;
  readonly slug: string;
  readonly visibility: string;
  readonly gitRemote?: string;
  readonly defaultRuntimeBrokerId?: string;
  readonly createdBy?: string;
  readonly ownerId?: string;
  readonly ownerName?: string;
  readonly labels?: Labels;
  readonly annotations?: Labels;
  readonly sharedDirs?: readonly SharedDir[];
  readonly created: string;
  readonly updated: string;
  readonly agentCount?: number;
  readonly activeBrokerCount?: number;
  readonly projectType: "linked" | "hub-managed";
  readonly _capabilities?: Capabilities;
  readonly groveId: string;
  readonly groveName: string;
  readonly grove: string;
}

/** The project, and what the caller may do with it where that is shown. */
export const projectJson = (p: ProjectView, capabilities?: Capabilities): ProjectJson => ({
  id: p.id,
  projectId: p.id,
  name: p.name,
  slug: p.slug,
  visibility: p.visibility,
  ...some("gitRemote", p.git_remote),
  ...some("defaultRuntimeBrokerId", p.default_runtime_broker_id),
  ...some("createdBy", p.created_by),
  ...some("ownerId", p.owner_id),
  ...some("ownerName", p.owner_name),
  ...some("labels", p.labels),
  ...some("annotations", p.annotations),
  ...some("sharedDirs", p.shared_dirs),
  created: time(p.created),
  updated: time(p.updated),
  ...some("agentCount", p.agent_count),
  ...some("activeBrokerCount", p.active_runtime_broker_count),
  projectType: p.linked ? "linked" : "hub-managed",
  ...(capabilities && { _capabilities: capabilities }),
  groveId: p.id,
  groveName: p.name,
  grove: p.slug,
});

/** A runtime broker that serves a project, as clients see it (spec/02 3.4). */
export interface ProviderJson {
  readonly projectId: string;
  readonly groveId: string;
  readonly brokerId: string;
  readonly brokerName: string;
  readonly status: string;
  readonly lastSeen: string;
  readonly localPath?: string;
  readonly linkedBy?: string;
  readonly linkedAt: string;
}

export const providerJson = (p: ProviderView): ProviderJson => ({
  projectId: p.project_id,
  groveId: p.project_id,
  brokerId: p.runtime_broker_id,
  brokerName: p.runtime_broker_name,
  status: p.status,
  lastSeen: timeOrZero(p.last_heartbeat),
  ...some("localPath", p.local_path),
  ...some("linkedBy", p.linked_by),
  linkedAt: time(p.linked_at),
});
