import { HubError, type Uuid } from "@rootstock/protocol";
import { type AuditEvent, type Db, findUserStanding, type UserStanding } from "@rootstock/store";
import type { TokenPair } from "./userTokens.ts";

/** What a program holds for a person who has said yes. */
export interface ProgramLogin {
  readonly user: UserStanding;
  readonly tokens: TokenPair;
}

/** The user as they stand now. Throws 403 `user_suspended` for one who may not come in any more. */
export const admittedUser = async (db: Db, id: Uuid): Promise<UserStanding> => {
  const user = await findUserStanding(db, id);
  if (user?.status === "active") return user;
  throw new HubError("user_suspended", "this account is suspended");
};

/** An address with these parameters beside its own. */
export const withQuery = (address: string, query: Readonly<Record<string, string>>): string => {
  const url = new URL(address);
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
  return url.href;
};

/** What the audit log is told of a person's word on a program: who said it is known there by the call. */
export const programAudit = (
  action: "program_login_allowed" | "device_login_allowed" | "device_login_denied",
  user: Pick<UserStanding, "id" | "email">,
  asker: { readonly address: string; readonly program: string },
): AuditEvent => ({
  action,
  targetType: "user",
  targetId: user.id,
  targetName: user.email,
  details: { program: asker.program, programAddress: asker.address },
});
