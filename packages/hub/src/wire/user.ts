import type { UserRow } from "@rootstock/store";
import { z } from "zod";
import type { Capabilities } from "./capabilities.ts";
import { some, time, timeOrZero } from "./fields.ts";
import { capabilitiesJson, id, timestamp } from "./schemas.ts";

/** A person's choices for the pages; whatever older hubs kept there stays. */
const preferencesJson = z.record(z.string(), z.unknown());

export const userReply = z
  .object({
    id,
    email: z.string(),
    displayName: z.string(),
    avatarUrl: z.string().optional(),
    role: z.enum(["admin", "member", "viewer"]),
    status: z.string(),
    preferences: preferencesJson.optional(),
    created: timestamp,
    lastLogin: timestamp,
    lastSeen: timestamp,
    _capabilities: capabilitiesJson,
  })
  .meta({ id: "User" });
export type UserJson = z.infer<typeof userReply>;

/** A user as those who manage users see them (spec/03 6.1). `preferences` are for the person and for admins alone. */
export const userJson = (user: UserRow, can: Capabilities, preferences: boolean): UserJson => ({
  id: user.id,
  email: user.email,
  displayName: user.display_name,
  ...some("avatarUrl", user.avatar_url),
  role: user.role,
  status: user.status,
  ...(preferences && some("preferences", user.preferences)),
  created: time(user.created),
  lastLogin: timeOrZero(user.last_login),
  lastSeen: timeOrZero(user.last_seen),
  _capabilities: can,
});
