import type { UserRow } from "@rootstock/store";
import type { Capabilities } from "./capabilities.ts";
import { some, time, timeOrZero } from "./fields.ts";

/** A user as those who manage users see them (spec/03 6.1). `preferences` are for the person and for admins alone. */
export const userJson = (user: UserRow, can: Capabilities, preferences: boolean) => ({
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
