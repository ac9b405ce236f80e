import type { ProjectView, ProviderView } from "@rootstock/store";
import { z } from "zod";
import type { Capabilities } from "./capabilities.ts";
import { some, time, timeOrZero } from "./fields.ts";
import { capabilitiesJson, count, id, labelsJson, timestamp } from "./schemas.ts";

/** A folder that the agents of a project share (spec/02 3.7). */
export const sharedDirJson = z
  .object({ name: z.string(), read_only: z.boolean().optional(), in_workspace: z.boolean().optional() })
  .meta({ id: "SharedDir" });

/** A project as clients see it (spec/02 3.1), with the names of older clients beside today's. */
export const projectReply = z
  .object({
    id: id,
    /** The copy of `id` that today's clients read (spec/08 1.3). */
    projectId: id,
    name: z.string(),
    slug: z.string(),
    visibility: z.string(),
    gitRemote: z.string().optional(),
    defaultRuntimeBrokerId: id.optional(),
    createdBy: z.string().optional(),
    ownerId: z.string().optional(),
    ownerName: z.string().optional(),
    labels: labelsJson.optional(),
    annotations: labelsJson.optional(),
    sharedDirs: z.array(sharedDirJson).readonly().optional(),
    created: timestamp,
    updated: timestamp,
    agentCount: count.optional(),
    activeBrokerCount: count.optional(),
    projectType: z.enum(["linked", "hub-managed"]),
    _capabilities: capabilitiesJson.optional(),
    groveId: id,
    groveName: z.string(),
    grove: z.string(),
  })
  .meta({ id: "Project" });
export type ProjectJson = z.infer<typeof projectReply>;

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
export const providerReply = z
  .object({
    projectId: id,
    groveId: id,
    brokerId: id,
    brokerName: z.string(),
    status: z.string(),
    lastSeen: timestamp,
    localPath: z.string().optional(),
    linkedBy: z.string().optional(),
    linkedAt: timestamp,
  })
  .meta({ id: "Provider" });
export type ProviderJson = z.infer<typeof providerReply>;

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
