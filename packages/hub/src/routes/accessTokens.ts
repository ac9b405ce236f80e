import { HubError, invalidField, notFound, parseUuid, type Uuid } from "@rootstock/protocol";
import type { Clock, Random } from "@rootstock/service";
import {
  type AccessTokenRow,
  accessTokenOf,
  accessTokensOf,
  countAccessTokens,
  type Db,
  deleteAccessToken,
  insertAccessToken,
  revokeAccessToken,
} from "@rootstock/store";
import { z } from "zod";
import { type AccessTokens, newAccessToken, type Principal, parseScopes, type UserPrincipal } from "../auth/index.ts";
import { id, pageFields, some, time, timestamp } from "../wire/index.ts";
import { users } from "./access.ts";
import { MAX_NAME } from "./fields.ts";
import { Hidden } from "./hidden.ts";
import { plainProjectOf } from "./lookup.ts";
import { listJson, pageQuery } from "./pages.ts";
import { type Asking, empty, json, type Route, route } from "./route.ts";
import { NO_BODY } from "./shapes.ts";

/** Tokens that a person gives to programs (spec/03 6.7): everybody sees and revokes their own. */

export interface AccessTokenDeps {
  readonly db: Db;
  readonly random: Random;
  readonly clock: Clock;
  readonly accessTokens: Pick<AccessTokens, "forgetAll">;
  /** Called after a commit that the change log tells of. */
  readonly changed: () => void;
}

const PATH = "/api/v1/auth/tokens";
const DAY_MS = 86_400_000;
const USUAL_DAYS = 90;
const MOST_DAYS = 365;
const MOST_TOKENS = 50;
const MAX_SCOPES = 64;
/** The CLI follows no cursor. */
const SIZES = { usual: 50, max: 500, first: 500 };

const createBody = z.object({
  name: z.string().trim().min(1, "name is required").max(MAX_NAME),
  projectId: z.string().min(1, "projectId is required").max(256),
  scopes: z.array(z.string().max(64)).min(1, "scopes are required").max(MAX_SCOPES),
  expiresAt: z.iso.datetime({ offset: true }).or(z.literal("")).nullish(),
});

const tokenReply = z
  .object({
    id,
    name: z.string(),
    prefix: z.string(),
    projectId: id,
    groveId: id,
    scopes: z.array(z.string()),
    revoked: z.boolean(),
    expiresAt: timestamp,
    lastUsed: timestamp.optional(),
    created: timestamp,
  })
  .meta({ id: "AccessToken" });

export const accessTokenRoutes = ({ db, random, clock, accessTokens, changed }: AccessTokenDeps): Route[] => {
  const expiryOf = (given: string | null | undefined): Date => {
    const now = clock.now();
    const at = given ? Date.parse(given) : now + USUAL_DAYS * DAY_MS;
    if (!(at > now)) throw invalidField("expiresAt", "expiresAt: must be in the future");
    if (at > now + MOST_DAYS * DAY_MS) throw invalidField("expiresAt", `expiresAt: at most ${MOST_DAYS} days from now`);
    return new Date(at);
  };

  return [
    route({
      method: "GET",
      path: PATH,
      access: users,
      does: { action: "list", on: "self" },
      query: z.object(pageQuery),
      summary: "The caller's access tokens",
      replies: { 200: z.object({ ...pageFields, items: z.array(tokenReply) }) },
      handler: async ({ principal, query }) => {
        const { id: userId } = personOf(principal);
        return json(
          200,
          await listJson({
            list: "access-tokens",
            filters: { userId },
            given: query,
            sizes: SIZES,
            rows: (page) => accessTokensOf(db, userId, page),
            position: (id) => accessTokenOf(db, userId, id),
            count: () => countAccessTokens(db, userId),
            as: "items",
            toJson: tokenInfo,
          }),
        );
      },
    }),
    route({
      method: "POST",
      path: PATH,
      access: users,
      limited: "create",
      does: { action: "create", on: "self" },
      body: createBody,
      summary: "Makes an access token; it is shown once",
      replies: { 201: z.object({ token: z.string(), accessToken: tokenReply }) },
      refuses: ["limit_exceeded", "conflict"],
      handler: async (call) => {
        const { body, principal, log } = call;
        const user = personOf(principal);
        const scopes = parseScopes(body.scopes);
        if (!scopes) throw invalidField("scopes", "scopes: one of them is unknown");
        const expiresAt = expiryOf(body.expiresAt);
        const project = await readableProject(db, call, body.projectId);
        const { token, hash, prefix } = newAccessToken(random);
        const { id: userId } = user;
        const made = {
          id: random.uuid(),
          userId,
          projectId: project,
          name: body.name,
          prefix,
          hash,
          scopes,
          expiresAt,
        };
        const row = await insertAccessToken(db, { ...made, most: MOST_TOKENS });
        if (!row) throw new HubError("limit_exceeded", `at most ${MOST_TOKENS} tokens: revoke one first`);
        log().info({ tokenId: row.id, userId, projectId: project, scopes }, "access token created");
        return json(201, { token, accessToken: tokenInfo(row) }, { "cache-control": "no-store" });
      },
    }),
    route({
      method: "GET",
      path: `${PATH}/:tokenId`,
      access: users,
      does: { action: "read", on: "self" },
      summary: "One access token",
      replies: { 200: tokenReply },
      handler: async ({ params, principal }) => {
        const row = await accessTokenOf(db, personOf(principal).id, tokenId(params));
        if (!row) throw notFound("Access token");
        return json(200, tokenInfo(row));
      },
    }),
    ...(
      [
        ["POST", `${PATH}/:tokenId/revoke`, revokeAccessToken],
        ["DELETE", `${PATH}/:tokenId`, deleteAccessToken],
      ] as const
    ).map(([method, path, take]) =>
      route({
        method,
        path,
        access: users,
        does: { action: "delete", on: "self" },
        summary: "Takes an access token back",
        replies: { 204: NO_BODY },
        handler: async ({ params, principal, log }) => {
          const { id: userId } = personOf(principal);
          const id = tokenId(params);
          if (!(await take(db, userId, id))) throw notFound("Access token");
          accessTokens.forgetAll();
          changed();
          log().info({ tokenId: id, userId }, "access token revoked");
          return empty();
        },
      }),
    ),
  ];
};

const personOf = (principal: Principal): UserPrincipal => {
  if (principal.kind !== "user") throw new HubError("forbidden", "only users have access tokens");
  return principal;
};

const tokenId = (params: Readonly<Record<string, string>>): Uuid => {
  const id = parseUuid(params.tokenId ?? "");
  if (!id) throw notFound("Access token");
  return id;
};

/** A project that the user may read: a token for another one would be good for nothing. Throws 400. */
const readableProject = async (db: Db, call: Asking, projectId: string): Promise<Uuid> => {
  const unknown = invalidField("projectId", "projectId: unknown project");
  try {
    return (await plainProjectOf(db, { principal: call.principal, params: { projectId }, does: call.does })).id;
  } catch (err) {
    if (err instanceof Hidden) throw new Hidden(unknown, err.reason, err.resource);
    if (err instanceof HubError && err.code === "not_found") throw unknown;
    throw err;
  }
};

const tokenInfo = (row: AccessTokenRow) => ({
  id: row.id,
  name: row.name,
  prefix: row.prefix,
  projectId: row.project_id,
  groveId: row.project_id,
  scopes: row.scopes,
  revoked: row.revoked_at !== null,
  expiresAt: time(row.expires_at),
  ...some("lastUsed", row.last_used && time(row.last_used)),
  created: time(row.created),
});
