import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import { audited, recordAudit } from "../audit.ts";
import type { Db } from "../database.ts";
import type { SignInsTable } from "../tables.ts";
import { transaction } from "../tx.ts";

/** Sign-ins of people: what their access and refresh tokens name, and what ends them. */

export type SignInClient = SignInsTable["client"];

/** A sign-in that lasts `lifetimeSeconds` unless it is refreshed. */
export const insertSignIn = (
  db: Db,
  signIn: {
    readonly id: Uuid;
    readonly userId: Uuid;
    readonly client: SignInClient;
    readonly lifetimeSeconds: number;
  },
): Promise<void> =>
  audited(db, async (tx) => {
    await tx
      .insertInto("sign_ins")
      .values({
        id: signIn.id,
        user_id: signIn.userId,
        client: signIn.client,
        expires_at: sql<Date>`now() + make_interval(secs => ${signIn.lifetimeSeconds})`,
      })
      // A token from before there were sign-ins, shown for the second time.
      .onConflict((c) => c.doNothing())
      .execute();
  });

/** Whether tokens of this sign-in still count. */
export const isSignInLive = async (db: Db, id: Uuid): Promise<boolean> => {
  const found = await db
    .selectFrom("sign_ins")
    .select("id")
    .where("id", "=", id)
    .where("ended_at", "is", null)
    .executeTakeFirst();
  return found !== undefined;
};

export type Rotation =
  /** The generation that the new refresh token carries. */
  | { readonly kind: "rotated"; readonly generation: number }
  /** No such sign-in, or it has ended. */
  | { readonly kind: "ended" }
  /** The token was used before, and not just now: somebody has a copy. The sign-in has ended by this. */
  | { readonly kind: "reused" };

/**
 * Exchanges the refresh token of `generation` for the next one. Within `graceSeconds` after that, the one before is
 * exchanged again for the same next one: two processes of one person, or an answer that was lost, are no theft.
 */
export const rotateSignIn = (
  db: Db,
  token: {
    readonly id: Uuid;
    readonly userId: Uuid;
    readonly generation: number;
    readonly lifetimeSeconds: number;
    readonly graceSeconds: number;
  },
): Promise<Rotation> =>
  transaction(db, async (tx): Promise<Rotation> => {
    const { rows } = await sql<{ readonly generation: number; readonly live: boolean; readonly recent: boolean }>`
      select generation, ended_at is null and expires_at > now() as live,
             rotated_at > now() - make_interval(secs => ${token.graceSeconds}) as recent
        from sign_ins where id = ${token.id} and user_id = ${token.userId} for update`.execute(tx);
    const [found] = rows;
    if (!found?.live || token.generation > found.generation) return { kind: "ended" };
    if (token.generation === found.generation) {
      await tx
        .updateTable("sign_ins")
        .set({
          generation: found.generation + 1,
          rotated_at: sql<Date>`now()`,
          expires_at: sql<Date>`now() + make_interval(secs => ${token.lifetimeSeconds})`,
        })
        .where("id", "=", token.id)
        .execute();
      return { kind: "rotated", generation: found.generation + 1 };
    }
    if (token.generation === found.generation - 1 && found.recent)
      return { kind: "rotated", generation: found.generation };
    await endSignIn(tx, token.id);
    await recordAudit(tx, {
      action: "refresh_token_reused",
      success: false,
      reason: "a refresh token came back after its successor was used",
      targetType: "user",
      targetId: token.userId,
    });
    return { kind: "reused" };
  });

/** Has a sign-in last `lifetimeSeconds` from now; one that has ended stays as it is. */
export const prolongSignIn = async (db: Db, id: Uuid, lifetimeSeconds: number): Promise<void> => {
  await db
    .updateTable("sign_ins")
    .set({ expires_at: sql<Date>`now() + make_interval(secs => ${lifetimeSeconds})` })
    .where("id", "=", id)
    .where("ended_at", "is", null)
    .execute();
};

/** Ends a sign-in; one that has ended stays as it is. */
export const endSignIn = (db: Db, id: Uuid): Promise<void> =>
  audited(db, async (tx) => {
    await tx
      .updateTable("sign_ins")
      .set({ ended_at: sql<Date>`now()` })
      .where("id", "=", id)
      .where("ended_at", "is", null)
      .execute();
  });

/** Forgets at most `limit` sign-ins whose tokens are all over. */
export const deleteExpiredSignIns = async (db: Db, limit: number): Promise<number> => {
  const { numAffectedRows } = await sql`
    delete from sign_ins where id in (select id from sign_ins where expires_at < now() limit ${limit})`.execute(db);
  return Number(numAffectedRows ?? 0n);
};
