import type { PolicyRow } from "@rootstock/store";
import { z } from "zod";
import type { Capabilities } from "./capabilities.ts";
import { some, time } from "./fields.ts";
import { anyObject, capabilitiesJson, id, labelsJson, timestamp } from "./schemas.ts";

export const policyReply = z
  .object({
    id,
    name: z.string(),
    description: z.string().optional(),
    scopeType: z.string(),
    scopeId: z.string(),
    groveId: z.string().optional(),
    resourceType: z.string(),
    resourceId: z.string().optional(),
    actions: z.array(z.string()).readonly(),
    effect: z.enum(["allow", "deny"]),
    conditions: anyObject.optional(),
    priority: z.int(),
    labels: labelsJson.optional(),
    annotations: labelsJson.optional(),
    created: timestamp,
    updated: timestamp,
    createdBy: z.string().optional(),
    _capabilities: capabilitiesJson.optional(),
  })
  .meta({ id: "Policy" });

/** A policy (spec/03 6.3). */
export const policyJson = (policy: PolicyRow, can?: Capabilities) => ({
  id: policy.id,
  name: policy.name,
  ...some("description", policy.description),
  scopeType: policy.scope_type,
  scopeId: policy.scope_id ?? "",
  ...some("groveId", policy.project_id),
  resourceType: policy.resource_type,
  ...some("resourceId", policy.resource_id),
  actions: policy.actions,
  effect: policy.effect,
  ...some("conditions", policy.conditions),
  priority: policy.priority,
  ...some("labels", policy.labels),
  ...some("annotations", policy.annotations),
  created: time(policy.created),
  updated: time(policy.updated),
  ...some("createdBy", policy.created_by),
  ...(can && { _capabilities: can }),
});
