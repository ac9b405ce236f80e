import { HubError, invalidField, notFound, parseUuid } from "@rootstock/protocol";
import type { Random } from "@rootstock/service";
import {
  countInvites,
  type Db,
  deleteInvite,
  findInvite,
  type InviteRow,
  insertInvite,
  inviteStatistics,
  linkInvite,
  listInvites,
  revokeInvite,
  transaction,
} from "@rootstock/store";
import { z } from "zod";
import { newInviteCode, type People, parseEmail } from "../people/index.ts";
import { count, id, pageFields, statusReply, time, timestamp } from "../wire/index.ts";
import { admins, users } from "./access.ts";
import { callerId } from "./allowList.ts";
import { listJson, pageQuery } from "./pages.ts";
import { json, type Route, route } from "./route.ts";

/** Codes that let somebody in (spec/03 6.6): kept as hashes, shown once. */

const PATH = "/api/v1/admin/invites";
const SIZES = { usual: 50, max: 200, first: 50 };
const MAX_LIFETIME_MS = 120 * 3_600_000;
const MAX_USES = 1_000_000;
const MAX_NOTE = 1_000;

const createBody = z.object({
  expiresIn: z.string().max(64),
  maxUses: z
    .number()
    .int()
    .max(MAX_USES)
    .nullish()
    .transform((n) => Math.max(0, n ?? 0)),
  note: z
    .string()
    .max(MAX_NOTE)
    .nullish()
    .transform((s) => s ?? ""),
  email: z.string().max(320).nullish(),
});

const UNIT_MS: Readonly<Record<string, number>> = {
  h: 3_600_000,
  m: 60_000,
  s: 1_000,
  ms: 1,
  us: 1e-3,
  µs: 1e-3,
  ns: 1e-6,
};

/** Milliseconds of a duration as Go writes it, such as `1h30m`; undefined for anything else. */
export const parseGoDuration = (text: string): number | undefined => {
  if (!/^(\d+(\.\d*)?(h|ms|m|s|us|µs|ns))+$/.test(text)) return undefined;
  let ms = 0;
  for (const [, n, unit] of text.matchAll(/(\d+(?:\.\d*)?)(h|ms|m|s|us|µs|ns)/g))
    ms += Number(n) * (UNIT_MS[unit ?? ""] ?? 0);
  return ms;
};

const inviteReply = z.object({
  id,
  codePrefix: z.string(),
  maxUses: count,
  useCount: count,
  expiresAt: timestamp,
  revoked: z.boolean(),
  createdBy: z.string(),
  note: z.string(),
  created: timestamp,
});
const createReply = z.object({ code: z.string(), inviteUrl: z.string(), invite: inviteReply });
const statsReply = z.object({
  pendingInvites: count,
  totalRedemptions: count,
  allowListCount: count,
  recentRedemptions: z.array(inviteReply.omit({ revoked: true, createdBy: true })),
});
const redeemReply = z.object({ message: z.string(), user: z.object({ id, email: z.string() }) });

export interface InviteDeps {
  readonly db: Db;
  readonly random: Random;
  readonly people: Pick<People, "redeem">;
  /** Called after a commit that the change log tells of. */
  readonly changed: () => void;
}

export const inviteRoutes = ({ db, random, people, changed }: InviteDeps): Route[] => [
  route({
    method: "GET",
    path: PATH,
    access: admins,
    does: { action: "read", on: "hub" },
    query: z.object(pageQuery),
    summary: "Invites",
    replies: { 200: z.object({ ...pageFields, items: z.array(inviteReply) }) },
    handler: async ({ query }) =>
      json(
        200,
        await listJson({
          list: "invites",
          filters: {},
          given: query,
          sizes: SIZES,
          rows: (page) => listInvites(db, page),
          position: (id) => findInvite(db, id),
          count: () => countInvites(db),
          as: "items",
          toJson: inviteJson,
        }),
      ),
  }),
  route({
    method: "POST",
    path: PATH,
    access: admins,
    does: { action: "update", on: "hub" },
    body: createBody,
    summary: "Makes an invite; its code is shown once",
    replies: { 201: createReply },
    refuses: ["conflict"],
    handler: async ({ body, principal, origin, log }) => {
      const lifetimeMs = parseGoDuration(body.expiresIn);
      if (!lifetimeMs || lifetimeMs > MAX_LIFETIME_MS)
        throw new HubError("invalid_request", 'expiresIn: want a duration such as "24h", at most 120h');
      const email = body.email ? parseEmail(body.email) : undefined;
      if (body.email && !email) throw invalidField("email", "email: not an e-mail address");
      const { code, hash, prefix } = newInviteCode(random);
      const invite = await transaction(db, async (tx) => {
        const row = await insertInvite(tx, {
          id: random.uuid(),
          codeHash: hash,
          codePrefix: prefix,
          maxUses: body.maxUses,
          lifetimeMs,
          createdBy: callerId(principal),
          note: body.note,
        });
        if (email) await linkInvite(tx, email, row.id);
        return row;
      });
      changed();
      log().info({ inviteId: invite.id, actorId: callerId(principal) }, "invite created");
      return json(201, { code, inviteUrl: `${origin()}/invite?code=${code}`, invite: inviteJson(invite) });
    },
  }),
  route({
    method: "GET",
    path: `${PATH}/stats`,
    access: admins,
    does: { action: "read", on: "hub" },
    summary: "How invites are used",
    replies: { 200: statsReply },
    handler: async () => {
      const found = await inviteStatistics(db);
      return json(200, {
        pendingInvites: found.pending,
        totalRedemptions: found.redemptions,
        allowListCount: found.allowed,
        recentRedemptions: found.recent.map((i) => ({
          id: i.id,
          codePrefix: i.code_prefix,
          useCount: i.use_count,
          maxUses: i.max_uses,
          expiresAt: time(i.expires_at),
          note: i.note,
          created: time(i.created),
        })),
      });
    },
  }),
  route({
    method: "GET",
    path: `${PATH}/:inviteId`,
    access: admins,
    does: { action: "read", on: "hub" },
    summary: "One invite",
    replies: { 200: inviteReply },
    handler: async ({ params }) => {
      const invite = await findInvite(db, inviteId(params));
      if (!invite) throw notFound("Invite");
      return json(200, inviteJson(invite));
    },
  }),
  route({
    method: "POST",
    path: `${PATH}/:inviteId/revoke`,
    access: admins,
    does: { action: "update", on: "hub" },
    summary: "Revokes an invite",
    replies: { 200: statusReply("revoked") },
    handler: async ({ params, principal, log }) => {
      const id = inviteId(params);
      if (!(await revokeInvite(db, id))) throw notFound("Invite");
      changed();
      log().info({ inviteId: id, actorId: callerId(principal) }, "invite revoked");
      return json(200, { status: "revoked" });
    },
  }),
  route({
    method: "DELETE",
    path: `${PATH}/:inviteId`,
    access: admins,
    does: { action: "update", on: "hub" },
    summary: "Deletes an invite",
    replies: { 200: statusReply("deleted") },
    handler: async ({ params, principal, log }) => {
      const id = inviteId(params);
      if (!(await deleteInvite(db, id))) throw notFound("Invite");
      changed();
      log().info({ inviteId: id, actorId: callerId(principal) }, "invite deleted");
      return json(200, { status: "deleted" });
    },
  }),
  route({
    method: "POST",
    path: "/api/v1/auth/invite/redeem",
    access: users,
    limited: "code",
    does: { action: "create", on: "self" },
    body: z.object({ code: z.string().min(1, "code is required").max(256) }),
    summary: "Redeems an invite",
    replies: { 200: redeemReply },
    refuses: ["not_found"],
    handler: async ({ body, principal }) => {
      if (principal.kind !== "user") throw new HubError("unauthorized", "only users redeem invites");
      await people.redeem(principal, body.code);
      return json(200, { message: "Invite redeemed", user: { id: principal.id, email: principal.email } });
    },
  }),
];

const inviteId = (params: Readonly<Record<string, string>>): string => {
  const id = parseUuid(params.inviteId ?? "");
  if (!id) throw notFound("Invite");
  return id;
};

const inviteJson = (i: InviteRow) => ({
  id: i.id,
  codePrefix: i.code_prefix,
  maxUses: i.max_uses,
  useCount: i.use_count,
  expiresAt: time(i.expires_at),
  revoked: i.revoked,
  createdBy: i.created_by ?? "",
  note: i.note,
  created: time(i.created),
});
