import { HubError } from "@rootstock/protocol";
import type { Db, UserStanding } from "@rootstock/store";
import { findUserStanding, userById } from "@rootstock/store";
import { z } from "zod";
import { type BrowserSessions, type SignIns, TokenError, type TokenPair, type UserTokens } from "../auth/index.ts";
import { type People, parseDisplayName, parseEmail } from "../people/index.ts";
import { count, id, some, time, timestamp } from "../wire/index.ts";
import { anyone, users } from "./access.ts";
import { PUBLIC } from "./does.ts";
import { type Call, empty, json, type Reply, type Route, route } from "./route.ts";
import { NO_BODY, PLAIN_TEXT } from "./shapes.ts";

/** What people hold after signing in: refreshed, looked at, given up (spec/03 3.1), and made for tests (3.5). */

export interface UserSessionDeps {
  readonly db: Db;
  readonly signIns: SignIns;
  readonly sessions: Pick<BrowserSessions, "begin" | "end">;
  readonly userTokens: UserTokens;
  readonly people: Pick<People, "testUser">;
  /** Whether the test login is switched on. */
  readonly testLogin: boolean;
}

const MAX_TOKEN = 8_192;
const TEST_LOGIN_BYTES = 4_096;
/** Tokens in answers are for whoever asked, and for no cache. */
const NO_STORE = { "cache-control": "no-store" };

const token = (name: string) => z.string(`${name} is required`).min(1, `${name} is required`).max(MAX_TOKEN);

const testBody = z.object({
  email: z.string(),
  role: z.enum(["admin", "member", "viewer"]).or(z.literal("")).nullish(),
  displayName: z.string().nullish(),
});

const tokensJson = {
  accessToken: z.string(),
  refreshToken: z.string(),
  expiresIn: count,
  expiresAt: timestamp.optional(),
};
const personJson = z.object({
  id,
  email: z.string(),
  displayName: z.string(),
  role: z.enum(["admin", "member", "viewer"]),
});
const validReply = z.union([
  z.object({ valid: z.literal(false) }),
  z.object({
    valid: z.literal(true),
    user: personJson,
    expiresAt: timestamp,
    tokenType: z.enum(["access", "refresh", "cli"]),
    clientType: z.string(),
  }),
]);
/** The answer of a sign-in. */
export const signedInReply = z
  .object({
    user: personJson.extend({ avatarUrl: z.string().optional() }),
    ...tokensJson,
    tokenType: z.string().optional(),
  })
  .meta({ id: "SignedIn" });

export const userSessionRoutes = (deps: UserSessionDeps): Route[] => [
  route({
    method: "POST",
    path: "/api/v1/auth/refresh",
    access: anyone,
    limited: "refresh",
    does: PUBLIC,
    body: z.object({ refreshToken: token("refreshToken") }),
    summary: "The next pair of tokens for a refresh token",
    replies: { 200: z.object(tokensJson) },
    refuses: ["unauthorized", "user_suspended"],
    handler: async ({ body }) => {
      try {
        return json(200, await deps.signIns.refresh(body.refreshToken), NO_STORE);
      } catch (err) {
        if (!(err instanceof TokenError)) throw err;
        throw new HubError("unauthorized", `invalid refresh token: ${err.message}`, { cause: err });
      }
    },
  }),
  route({
    method: "POST",
    path: "/api/v1/auth/validate",
    access: anyone,
    limited: "validate",
    does: PUBLIC,
    body: z.object({ token: token("token") }),
    summary: "Whether a token is good, and whose it is",
    replies: { 200: validReply },
    refuses: ["unauthorized", "user_suspended"],
    handler: async ({ body }) => {
      try {
        const claims = await deps.userTokens.verify(body.token);
        const user = await deps.signIns.check(claims);
        return json(200, {
          valid: true,
          user: userInfo(user),
          expiresAt: time(claims.expiresAt),
          tokenType: claims.kind === "refresh" ? "refresh" : claims.client === "cli" ? "cli" : "access",
          clientType: claims.client,
        });
      } catch (err) {
        if (err instanceof TokenError) return json(200, { valid: false });
        throw err;
      }
    },
  }),
  route({
    method: "POST",
    path: "/api/v1/auth/logout",
    access: anyone,
    limited: "refresh",
    does: PUBLIC,
    body: z.object({ refreshToken: z.string().max(MAX_TOKEN).nullish() }),
    summary: "Signs out",
    replies: { 200: z.object({ success: z.literal(true) }) },
    refuses: ["unauthorized", "forbidden", "session_expired"],
    handler: async ({ body, headers, credentials }) => {
      const cleared = await deps.sessions.end(credentials);
      const shown = [body.refreshToken, bearerOf(headers)].filter((t): t is string => Boolean(t));
      for (const one of shown) await deps.signIns.end(one);
      return json(200, { success: true }, cleared === undefined ? {} : { "set-cookie": cleared });
    },
  }),
  route({
    method: "POST",
    path: "/api/v1/auth/sign-out-everywhere",
    access: users,
    does: { action: "update", on: "self" },
    duringMaintenance: true,
    summary: "Signs the caller out everywhere",
    replies: { 204: NO_BODY },
    handler: async ({ principal }) => {
      if (principal.kind === "user") await deps.signIns.endAll(principal.id);
      return empty();
    },
  }),
  route({
    method: "POST",
    path: "/api/v1/auth/test-login",
    access: anyone,
    limited: "login",
    does: PUBLIC,
    summary: "Signs anybody in, for tests of the hub itself",
    replies: { 200: signedInReply, 400: PLAIN_TEXT, 401: PLAIN_TEXT, 403: PLAIN_TEXT },
    reads: { "application/json": testBody },
    handler: (call) => testLogin(deps, call),
  }),
];

/** Signs anybody in as whoever a test likes, for a token that only who holds the hub's key can make. */
const testLogin = async (deps: UserSessionDeps, call: Call): Promise<Reply> => {
  if (!deps.testLogin) return plain(403, "test login is not enabled");
  try {
    await deps.userTokens.verifyTestLogin(bearerOf(call.headers) ?? "");
  } catch (err) {
    if (err instanceof TokenError) return plain(401, `invalid test login token: ${err.message}`);
    throw err;
  }
  if (call.rawBody.byteLength > TEST_LOGIN_BYTES) return plain(400, "the body is too large");
  const body = testBody.safeParse(parsed(call.rawBody));
  const email = body.success ? parseEmail(body.data.email) : undefined;
  if (!body.success || !email) return plain(400, "email is required, and role is one of admin, member, viewer");
  const { role, displayName } = body.data;
  const id = await deps.people.testUser({
    email,
    displayName: parseDisplayName(displayName) || email,
    role: role || "member",
  });
  const user = await findUserStanding(deps.db, id);
  if (!user) return plain(400, "the account is gone");
  const reply = await signedIn(deps.db, user, await deps.signIns.begin(user, "web"));
  reply.headers.append("set-cookie", await deps.sessions.begin(user, call.origin()));
  return reply;
};

const parsed = (body: Buffer): unknown => {
  try {
    return JSON.parse(body.toString("utf8"));
  } catch {
    return undefined;
  }
};

const plain = (status: number, text: string): Reply =>
  new Response(`${text}\n`, { status, headers: { "content-type": "text/plain; charset=utf-8" } });

/** The answer of a sign-in: who it is, and what they hold. */
export const signedIn = async (
  db: Db,
  user: UserStanding,
  tokens: TokenPair,
  more: Readonly<Record<string, string>> = {},
): Promise<Reply> => {
  const row = await userById(db, user.id);
  const shown = { ...userInfo(user), ...some("avatarUrl", row?.avatar_url) };
  return json(200, { user: shown, ...tokens, ...more }, NO_STORE);
};

/** UserInfo of spec/03 3.1. */
export const userInfo = ({ id, email, displayName, role }: UserStanding) => ({ id, email, displayName, role });

const bearerOf = (headers: Headers): string | undefined =>
  /^bearer +(\S+)$/i.exec(headers.get("authorization")?.trim() ?? "")?.[1];
