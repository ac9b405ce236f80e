import type { GroupMember, GroupRow } from "@rootstock/store";
import { z } from "zod";
import type { Capabilities } from "./capabilities.ts";
import { some, time, timeOrZero } from "./fields.ts";
import { capabilitiesJson, id, labelsJson, timestamp } from "./schemas.ts";

export const groupReply = z
  .object({
    id,
    name: z.string(),
    slug: z.string(),
    description: z.string().optional(),
    groupType: z.enum(["explicit", "project_agents"]),
    projectId: id.optional(),
    groveId: id.optional(),
    labels: labelsJson.optional(),
    annotations: labelsJson.optional(),
    created: timestamp,
    updated: timestamp,
    createdBy: z.string().optional(),
    ownerId: z.string().optional(),
    _capabilities: capabilitiesJson.optional(),
  })
  .meta({ id: "Group" });
export type GroupJson = z.infer<typeof groupReply>;

export const memberReply = z
  .object({
    groupId: id,
    memberType: z.enum(["user", "agent", "group"]),
    memberId: id,
    role: z.enum(["member", "admin", "owner"]),
    addedAt: timestamp,
    addedBy: z.string().optional(),
    displayName: z.string().optional(),
  })
  .meta({ id: "GroupMember" });
export type MemberJson = z.infer<typeof memberReply>;

/** A group (spec/03 6.2). */
export const groupJson = (group: GroupRow, can?: Capabilities): GroupJson => ({
  id: group.id,
  name: group.name,
  slug: group.slug,
  ...some("description", group.description),
  groupType: group.group_type,
  ...some("projectId", group.project_id),
  ...some("groveId", group.project_id),
  ...some("labels", group.labels),
  ...some("annotations", group.annotations),
  created: time(group.created),
  updated: time(group.updated),
  ...some("createdBy", group.created_by),
  ...some("ownerId", group.owner_id),
  ...(can && { _capabilities: can }),
});

/** A member of a group. Groups inside groups have no time, as clients know them. */
export const memberJson = (member: GroupMember): MemberJson => ({
  groupId: member.groupId,
  memberType: member.memberType,
  memberId: member.memberId,
  role: member.role,
  addedAt: timeOrZero(member.memberType === "group" ? null : member.addedAt),
  ...some("addedBy", member.addedBy),
  ...some("displayName", member.displayName),
});
