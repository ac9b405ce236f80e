import type { Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import type { Db } from "../database.ts";
import { transaction } from "../tx.ts";
import { endSignIn } from "./signIns.ts";

/**
 * Programs that wait until a person types their code somewhere else (RFC 8628, spec/03 3.3). A row goes from `pending` to
 * `approved` or `denied` by the person, and from `approved` to `redeemed` by the program, each once.
 */

export interface NewDeviceLogin {
  readonly deviceCodeHash: Buffer;
  readonly userCodeHash: Buffer;
  readonly address: string;
  readonly program: string;
  readonly lifetimeSeconds: number;
  readonly intervalSeconds: number;
  /** So many may wait at once. */
  readonly most: number;
}

/** Notes that a program waits. `taken`: another one has this user code; `full`: too many wait already. */
export const insertDeviceLogin = async (db: Db, login: NewDeviceLogin): Promise<"inserted" | "taken" | "full"> => {
  const { rows } = await sql<{ readonly full: boolean; readonly inserted: boolean }>`
    with waiting as (select count(*) >= ${login.most} as is_full from device_logins where expires_at > now()),
    made as (
      insert into device_logins
        (device_code_hash, user_code_hash, address, program, interval_seconds, expires_at)
      select ${login.deviceCodeHash}, ${login.userCodeHash}, ${login.address}, ${login.program},
             ${login.intervalSeconds}::int, now() + make_interval(secs => ${login.lifetimeSeconds})
        from waiting where not is_full
      on conflict do nothing returning 1)
    select is_full as "full", exists (select from made) as inserted from waiting`.execute(db);
  const [row] = rows;
  if (row?.inserted) return "inserted";
  return row?.full ? "full" : "taken";
};

/** A program that waits for a person. */
export interface WaitingDevice {
  readonly address: string;
  readonly program: string;
  readonly created: Date;
}

/**
 * The program with this user code that still waits; `limited` when this person has tried too many wrong ones. Each
 * wrong one counts, whichever replica is asked: at most `most` in `windowSeconds`.
 */
export const findWaitingDevice = (
  db: Db,
  tried: {
    readonly userCodeHash: Buffer;
    readonly userId: Uuid;
    readonly most: number;
    readonly windowSeconds: number;
  },
): Promise<WaitingDevice | "limited" | undefined> =>
  transaction(db, async (tx): Promise<WaitingDevice | "limited" | undefined> => {
    const over = sql`t.since < now() - make_interval(secs => ${tried.windowSeconds})`;
    // Locks the row until the end: who asks often at once is counted one by one.
    const { rows } = await sql<{ readonly tries: number }>`
      insert into user_code_tries as t (user_id, tries) values (${tried.userId}, 1)
      on conflict (user_id) do update
        set tries = case when ${over} then 1 else t.tries + 1 end, since = case when ${over} then now() else t.since end
      returning tries`.execute(tx);
    if ((rows[0]?.tries ?? 0) > tried.most) return "limited";
    const found = await tx
      .selectFrom("device_logins")
      .select(["address", "program", "created"])
      .where("user_code_hash", "=", tried.userCodeHash)
      .where("state", "=", "pending")
      .where(sql<boolean>`expires_at > now()`)
      .executeTakeFirst();
    if (found)
      await tx
        .updateTable("user_code_tries")
        .set({ tries: sql<number>`tries - 1` })
        .where("user_id", "=", tried.userId)
        .execute();
    return found;
  });

/** What a person says to the program with this code. False: it does not wait (any more). */
export const decideDeviceLogin = async (
  db: Db,
  decision: {
    readonly userCodeHash: Buffer;
    /** Undefined: nobody, the program is refused. */
    readonly approvedBy: { readonly userId: Uuid; readonly tokenVersion: number } | undefined;
  },
): Promise<boolean> => {
  const { approvedBy } = decision;
  const done = await db
    .updateTable("device_logins")
    .set({
      state: approvedBy ? "approved" : "denied",
      user_id: approvedBy?.userId ?? null,
      token_version: approvedBy?.tokenVersion ?? null,
    })
    .where("user_code_hash", "=", decision.userCodeHash)
    .where("state", "=", "pending")
    .where(sql<boolean>`expires_at > now()`)
    .executeTakeFirst();
  return done.numUpdatedRows > 0n;
};

export type DevicePoll =
  /** Nobody has said anything yet. */
  | { readonly kind: "pending" }
  /** Asked too soon; from now on the program must wait so many seconds. */
  | { readonly kind: "tooSoon"; readonly intervalSeconds: number }
  | { readonly kind: "expired" }
  | { readonly kind: "denied" }
  | { readonly kind: "redeemed"; readonly userId: Uuid }
  /** It was exchanged before: somebody has a copy. The sign-in that it gave has ended by this. */
  | { readonly kind: "reused"; readonly userId: Uuid; readonly signInId: Uuid }
  | { readonly kind: "unknown" };

interface Polled {
  readonly state: "pending" | "approved" | "denied" | "redeemed";
  readonly live: boolean;
  readonly early: boolean;
  readonly interval: number;
  readonly userId: Uuid | null;
  readonly signInId: Uuid | null;
}

/**
 * What a program hears that asks whether it may, at most once in its interval whichever replicas it asks. An approval is
 * exchanged for the sign-in `signInId`, once; to be called in the transaction that inserts that one.
 */
export const pollDeviceLogin = (
  db: Db,
  poll: {
    readonly deviceCodeHash: Buffer;
    readonly signInId: Uuid;
    /** How much sooner than its interval a program may ask, in seconds: its clock and its way here are not ours. */
    readonly leewaySeconds: number;
    /** By how much asking too soon makes the interval longer, in seconds, and how long it gets at most. */
    readonly penaltySeconds: number;
    readonly longestSeconds: number;
  },
): Promise<DevicePoll> =>
  transaction(db, async (tx): Promise<DevicePoll> => {
    // Locked first: of two questions at once the second one sees the first.
    const { rows } = await sql<Polled>`
      with asked as (
        select d.*, d.expires_at > now() as live,
               coalesce(d.polled_at > now() - make_interval(secs => d.interval_seconds - ${poll.leewaySeconds}), false)
                 as early
          from device_logins d where d.device_code_hash = ${poll.deviceCodeHash} for update)
      update device_logins d set polled_at = now(),
             interval_seconds = case when asked.early and asked.state = 'pending'
               then least(asked.interval_seconds + ${poll.penaltySeconds}::int, ${poll.longestSeconds}::int)
               else asked.interval_seconds end
        from asked where d.device_code_hash = asked.device_code_hash
      returning d.state, asked.live, asked.early, d.interval_seconds as interval, d.user_id as "userId",
                d.sign_in_id as "signInId"`.execute(tx);
    const [found] = rows;
    if (!found) return { kind: "unknown" };
    const { state, userId, signInId } = found;
    if (state === "redeemed" && userId && signInId) {
      await endSignIn(tx, signInId);
      return { kind: "reused", userId, signInId };
    }
    if (state === "denied") return { kind: "denied" };
    if (!found.live) return { kind: "expired" };
    if (state === "pending")
      return found.early ? { kind: "tooSoon", intervalSeconds: found.interval } : { kind: "pending" };
    const redeemed = await sql<{ readonly userId: Uuid }>`
      update device_logins d set state = 'redeemed', sign_in_id = ${poll.signInId} from users u
       where d.device_code_hash = ${poll.deviceCodeHash} and d.state = 'approved' and u.id = d.user_id
         and u.token_version = d.token_version
      returning d.user_id as "userId"`.execute(tx);
    const [taken] = redeemed.rows;
    // Approved by somebody who has signed out everywhere since, or may not come in any more.
    return taken ? { kind: "redeemed", userId: taken.userId } : { kind: "denied" };
  });
