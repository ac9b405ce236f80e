import type { GroupMember, GroupRow } from "@rootstock/store";
import type { Capabilities } from "./capabilities.ts";
import { some, time, timeOrZero } from "./fields.ts";

/** A group (spec/03 6.2). */
export const groupJson = (group: GroupRow, can?: Capabilities) => ({
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
export const memberJson = (member: GroupMember) => ({
  groupId: member.groupId,
  memberType: member.memberType,
  memberId: member.memberId,
  role: member.role,
  addedAt: timeOrZero(member.memberType === "group" ? null : member.addedAt),
  ...some("addedBy", member.addedBy),
  ...some("displayName", member.displayName),
});
