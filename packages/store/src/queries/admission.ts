import type { Uuid } from "@rootstock/protocol";
import { type Selectable, sql } from "kysely";
import { audited } from "../audit.ts";
import type { Db } from "../database.ts";
import type { AllowListTable, InvitesTable } from "../tables.ts";
import { after, type Page } from "./keyset.ts";
import { normalizedEmail } from "./users.ts";

/** Who may come in: addresses that are allowed, and invites that make them so (spec/03 6.5, 6.6). */

export type InviteRow = Selectable<InvitesTable>;

/** An entry with the invite that it came from, or that is to be sent to it. */
export interface AllowListEntry extends Selectable<AllowListTable> {
  readonly code_prefix: string | null;
  readonly max_uses: number | null;
  readonly use_count: number | null;
  readonly expires_at: Date | null;
  readonly revoked: boolean | null;
  readonly expired: boolean | null;
}

/** Whether the address may come in. */
export const isAllowListed = async (db: Db, email: string): Promise<boolean> => {
  const found = await db
    .selectFrom("allow_list")
    .select("id")
    .where("email", "=", normalizedEmail(email))
    .executeTakeFirst();
  return found !== undefined;
};

export const allowedById = (db: Db, id: Uuid): Promise<Selectable<AllowListTable> | undefined> =>
  db.selectFrom("allow_list").selectAll().where("id", "=", id).executeTakeFirst();

/** An entry; undefined when the address is there already. */
export const insertAllowed = (
  db: Db,
  entry: {
    readonly id: Uuid;
    readonly email: string;
    readonly note: string;
    readonly addedBy: Uuid | null;
    readonly inviteId?: Uuid;
  },
): Promise<Selectable<AllowListTable> | undefined> =>
  audited(db, (tx) =>
    tx
      .insertInto("allow_list")
      .values({
        id: entry.id,
        email: normalizedEmail(entry.email),
        note: entry.note,
        added_by: entry.addedBy,
        invite_id: entry.inviteId ?? null,
      })
      .onConflict((c) => c.column("email").doNothing())
      .returningAll()
      .executeTakeFirst(),
  );

/** Which of these entries were added; the others' addresses were there. */
export const insertAllAllowed = (
  db: Db,
  entries: readonly { readonly id: Uuid; readonly email: string; readonly note: string }[],
  addedBy: Uuid,
): Promise<number> =>
  audited(db, async (tx) => {
    if (entries.length === 0) return 0;
    const added = await tx
      .insertInto("allow_list")
      .values(entries.map((e) => ({ id: e.id, email: normalizedEmail(e.email), note: e.note, added_by: addedBy })))
      .onConflict((c) => c.column("email").doNothing())
      .returning("id")
      .execute();
    return added.length;
  });

/** Names the invite beside the entry of an address, if there is one. */
export const linkInvite = async (db: Db, email: string, inviteId: Uuid): Promise<void> => {
  await db.updateTable("allow_list").set({ invite_id: inviteId }).where("email", "=", normalizedEmail(email)).execute();
};

/** False: there was no such entry. */
export const deleteAllowed = (db: Db, email: string): Promise<boolean> =>
  audited(db, async (tx) => {
    const done = await tx.deleteFrom("allow_list").where("email", "=", normalizedEmail(email)).executeTakeFirst();
    return done.numDeletedRows > 0n;
  });

/** A page of entries, newest first. */
export const listAllowed = async (db: Db, page: Page): Promise<readonly AllowListEntry[]> => {
  const { rows } = await sql<AllowListEntry>`
    select a.*, i.code_prefix, i.max_uses, i.use_count, i.expires_at, i.revoked, i.expires_at <= now() as expired
      from allow_list a left join invites i on i.id = a.invite_id
     where ${after("a", page.after)} order by a.created desc, a.id desc limit ${page.limit}`.execute(db);
  return rows;
};

/** How many addresses are on the list. */
export const countAllowed = (db: Db): Promise<number> => count(db, "allow_list");

/** The domains of the addresses of those who have an account, sorted. */
export const emailDomains = async (db: Db): Promise<readonly string[]> => {
  const { rows } = await sql<{ readonly domain: string }>`
    select distinct substring(email from '@([^@]+)$') as domain from users where email like '%@%' order by domain`.execute(
    db,
  );
  return rows.map((r) => r.domain);
};

export const insertInvite = (
  db: Db,
  invite: {
    readonly id: Uuid;
    readonly codeHash: Buffer;
    readonly codePrefix: string;
    readonly maxUses: number;
    readonly lifetimeMs: number;
    readonly createdBy: Uuid;
    readonly note: string;
  },
): Promise<InviteRow> =>
  audited(db, (tx) =>
    tx
      .insertInto("invites")
      .values({
        id: invite.id,
        code_hash: invite.codeHash,
        code_prefix: invite.codePrefix,
        max_uses: invite.maxUses,
        expires_at: sql<Date>`now() + make_interval(secs => ${invite.lifetimeMs / 1000})`,
        created_by: invite.createdBy,
        note: invite.note,
      })
      .returningAll()
      .executeTakeFirstOrThrow(),
  );

/** Uses the invite with this code up by one. Undefined: there is none, or it is revoked, over, or used up. */
export const useInvite = (db: Db, codeHash: Buffer): Promise<InviteRow | undefined> =>
  audited(db, (tx) =>
    tx
      .updateTable("invites")
      .set({ use_count: sql<number>`use_count + 1`, last_used: sql<Date>`now()` })
      .where("code_hash", "=", codeHash)
      .where("revoked", "=", false)
      .where(sql<boolean>`expires_at > now()`)
      .where(sql<boolean>`(max_uses = 0 or use_count < max_uses)`)
      .returningAll()
      .executeTakeFirst(),
  );

export const findInvite = (db: Db, id: Uuid): Promise<InviteRow | undefined> =>
  db.selectFrom("invites").selectAll().where("id", "=", id).executeTakeFirst();

/** False: there is no such invite. */
export const revokeInvite = (db: Db, id: Uuid): Promise<boolean> =>
  audited(db, async (tx) => {
    const done = await tx.updateTable("invites").set({ revoked: true }).where("id", "=", id).executeTakeFirst();
    return done.numUpdatedRows > 0n;
  });

/** False: there was no such invite. */
export const deleteInvite = (db: Db, id: Uuid): Promise<boolean> =>
  audited(db, async (tx) => {
    const done = await tx.deleteFrom("invites").where("id", "=", id).executeTakeFirst();
    return done.numDeletedRows > 0n;
  });

/** A page of invites, newest first. */
export const listInvites = (db: Db, page: Page): Promise<InviteRow[]> =>
  db
    .selectFrom("invites")
    .selectAll()
    .where(after("invites", page.after))
    .orderBy("created", "desc")
    .orderBy("id", "desc")
    .limit(page.limit)
    .execute();

/** How many invites there are. */
export const countInvites = (db: Db): Promise<number> => count(db, "invites");

export interface InviteStatistics {
  readonly pending: number;
  readonly redemptions: number;
  readonly allowed: number;
  /** The ten that were used last. */
  readonly recent: readonly InviteRow[];
}

export const inviteStatistics = async (db: Db): Promise<InviteStatistics> => {
  const { rows } = await sql<{ readonly pending: number; readonly redemptions: number; readonly allowed: number }>`
    select count(*) filter (where not revoked and expires_at > now() and (max_uses = 0 or use_count < max_uses))::int
             as pending,
           coalesce(sum(use_count), 0)::int as redemptions,
           (select count(*)::int from allow_list) as allowed
      from invites`.execute(db);
  const recent = await db
    .selectFrom("invites")
    .selectAll()
    .where("use_count", ">", 0)
    .orderBy("last_used", "desc")
    .limit(10)
    .execute();
  return { pending: 0, redemptions: 0, allowed: 0, ...rows[0], recent };
};

const count = async (db: Db, table: "allow_list" | "invites"): Promise<number> => {
  const { n } = await db.selectFrom(table).select(sql<number>`count(*)::int`.as("n")).executeTakeFirstOrThrow();
  return n;
};
