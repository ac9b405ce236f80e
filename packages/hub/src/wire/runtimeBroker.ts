import type { RuntimeBrokerRow } from "@rootstock/store";
import { z } from "zod";
import type { Capabilities } from "./capabilities.ts";
import { some, time, timeOrZero } from "./fields.ts";
import { anyObject, capabilitiesJson, id, labelsJson, timestamp } from "./schemas.ts";

/** A runtime broker as clients see it (spec/01 1.1). */
export const runtimeBrokerReply = z
  .object({
    id: id,
    name: z.string(),
    slug: z.string(),
    version: z.string(),
    status: z.string(),
    connectionState: z.enum(["connected", "disconnected"]),
    lastHeartbeat: timestamp,
    capabilities: anyObject.optional(),
    profiles: z.array(anyObject).readonly().optional(),
    labels: labelsJson.optional(),
    annotations: labelsJson.optional(),
    connectedHubId: id.optional(),
    connectedSessionId: id.optional(),
    connectedAt: timestamp.optional(),
    endpoint: z.string().optional(),
    autoProvide: z.boolean().optional(),
    created: timestamp,
    updated: timestamp,
    createdBy: z.string().optional(),
    createdByName: z.string().optional(),
    localPath: z.string().optional(),
    _capabilities: capabilitiesJson.optional(),
  })
  .meta({ id: "RuntimeBroker" });
export type RuntimeBrokerJson = z.infer<typeof runtimeBrokerReply>;

/** The runtime broker; `localPath` where a project of its machine is asked about. */
export const runtimeBrokerJson = (
  r: RuntimeBrokerRow,
  more: { readonly localPath?: string | null; readonly capabilities?: Capabilities } = {},
): RuntimeBrokerJson => ({
  id: r.id,
  name: r.name,
  slug: r.slug,
  version: r.version,
  status: r.status,
  connectionState: r.connected_hub_id === null ? "disconnected" : "connected",
  lastHeartbeat: timeOrZero(r.last_heartbeat),
  ...some("capabilities", r.capabilities),
  ...some("profiles", r.profiles),
  ...some("labels", r.labels),
  ...some("annotations", r.annotations),
  ...some("connectedHubId", r.connected_hub_id),
  ...some("connectedSessionId", r.connected_session_id),
  ...(r.connected_at && { connectedAt: time(r.connected_at) }),
  ...some("endpoint", r.endpoint),
  ...some("autoProvide", r.auto_provide),
  created: time(r.created),
  updated: time(r.updated),
  ...some("createdBy", r.created_by),
  ...some("createdByName", r.created_by_name),
  ...some("localPath", more.localPath),
  ...(more.capabilities && { _capabilities: more.capabilities }),
});
