import { AsyncLocalStorage } from "node:async_hooks";
import { type RawBuilder, sql, type Transaction } from "kysely";
import type { Db } from "./database.ts";
import type { Tables } from "./tables.ts";
import { transaction } from "./tx.ts";

/** Who acts, as the audit log tells it (spec/03 section 7). Holds no secret: a credential is named by its kind and its id. */
export interface AuditActor {
  readonly kind: string;
  readonly id?: string | undefined;
  readonly email?: string | undefined;
  /** The kind of credential that was shown, and which one where there are several. */
  readonly credential?: string | undefined;
  readonly credentialId?: string | undefined;
  /** Where the call came from, as far as it can be believed. */
  readonly address?: string | undefined;
  readonly userAgent?: string | undefined;
  readonly requestId?: string | undefined;
}

/**
 * The actor travels with the call, not through the arguments of everything between: no code path can leave it out. Asked
 * only when something is recorded.
 */
const acting = new AsyncLocalStorage<() => AuditActor>();

/**
 * Whoever asked for what is carried out now, elsewhere or later than they did: the log finds out what they are. The hub
 * itself, where nobody is known.
 */
export const askerOf = (intent: { readonly createdBy: string | null; readonly dispatchId: string }): AuditActor => ({
  ...(intent.createdBy === null ? { kind: "system" } : { kind: "asker", id: intent.createdBy }),
  credential: "dispatch",
  credentialId: intent.dispatchId,
});

/** Runs `work`, and whatever it sets in motion, on behalf of this actor. */
export const actingAs = <T>(actor: () => AuditActor, work: () => T): T => acting.run(actor, work);

/** Runs `work` on behalf of somebody else who calls from the same place: a person who has just proved who they are. */
export const actingFor = <T>(who: Partial<AuditActor>, work: () => T): T => {
  const outer = acting.getStore();
  return acting.run(() => ({ kind: "nobody", ...outer?.(), ...who }), work);
};

/** Who acts now; undefined for what the hub does by itself. */
export const currentActor = (): AuditActor | undefined => acting.getStore()?.();

const told = new WeakMap<Transaction<Tables>, () => AuditActor>();

/**
 * Runs statements on tables that are audited by triggers, in one transaction that knows who acts. Every function that
 * changes such a table goes through here; what does not is recorded as the hub's own doing.
 */
export const audited = <T>(db: Db, work: (db: Db) => Promise<T>): Promise<T> => {
  const actor = acting.getStore();
  if (!actor) return work(db);
  return transaction(db, async (tx) => {
    if (told.get(tx) !== actor) {
      await sql`select set_config('rootstock.actor', ${actorJson(actor())}, true)`.execute(tx);
      told.set(tx, actor);
    }
    return work(tx);
  });
};

/** Who acts now, as {@link tellingActor} puts it into a statement; null for what the hub does by itself. */
export const actorText = (): string | null => {
  const actor = currentActor();
  return actor ? actorJson(actor) : null;
};

/**
 * Tells the triggers who acts from within the statement that they follow, for one that has no transaction around it: a
 * list of a `with`, which what is written must select from.
 */
export const tellingActor = (actor: RawBuilder<string | null>) => sql`
  actor as materialized (select set_config('rootstock.actor', ${actor}, true))`;

/** Something that changes no row of an audited table. */
export interface AuditEvent {
  readonly action: string;
  readonly success?: boolean;
  /** Why it failed. */
  readonly reason?: string;
  readonly targetType: string;
  readonly targetId?: string | undefined;
  readonly targetName?: string | undefined;
  readonly projectId?: string | undefined;
  /** Never a secret. */
  readonly details?: Readonly<Record<string, unknown>>;
}

/** Records an event on behalf of who acts now, in the caller's transaction if it is one. */
export const recordAudit = async (db: Db, e: AuditEvent): Promise<void> => {
  const actor = currentActor();
  await sql`select record_audit(${actor ? actorJson(actor) : null}::jsonb, ${e.action}, ${e.targetType},
    ${textOf(e.targetId)}::text, ${textOf(e.targetName)}::text, ${e.projectId ?? null}::uuid,
    ${JSON.stringify(e.details ?? {})}::jsonb, ${e.success ?? true}::boolean, ${textOf(e.reason)}::text)`.execute(db);
};

const MOST_CHARACTERS = 512;

/** What others wrote is kept short, and without what PostgreSQL does not store. */
const textOf = (text: string | undefined): string | null =>
  text === undefined
    ? null
    : text
        .replace(/\p{Cc}/gu, " ")
        .toWellFormed()
        .slice(0, MOST_CHARACTERS)
        .toWellFormed();

const actorJson = (actor: AuditActor): string =>
  JSON.stringify(Object.fromEntries(Object.entries(actor).map(([key, value]) => [key, textOf(value)])));
