import type { Uuid } from "@rootstock/protocol";
import { type Selectable, sql } from "kysely";
import type { AuditLogTable } from "../auditTables.ts";
import type { Db } from "../database.ts";
import { all, type Condition } from "./keyset.ts";

/** Reading the audit log, and its retention. Rows come by `recordAudit` and by triggers. */

export type AuditRow = Selectable<AuditLogTable>;

/** A row's place in the order newest first. */
export interface AuditPosition {
  readonly at: Date;
  readonly id: string;
}

/** Absent: any. */
export interface AuditFilter {
  /** An id, an e-mail address, or a kind. */
  readonly actor?: string | undefined;
  readonly action?: string | undefined;
  /** An id, a name, or a type. */
  readonly target?: string | undefined;
  readonly projectId?: Uuid | undefined;
  readonly success?: boolean | undefined;
  readonly since?: Date | undefined;
  readonly until?: Date | undefined;
}

/** At most `limit` rows behind `after`, newest first. */
export const listAudit = async (
  db: Db,
  filter: AuditFilter,
  page: { readonly limit: number; readonly after?: AuditPosition | undefined },
): Promise<readonly AuditRow[]> => {
  const { actor, action, target, projectId, success, since, until } = filter;
  const { after } = page;
  const conditions: readonly (Condition | false | undefined)[] = [
    actor !== undefined &&
      (isUuid(actor)
        ? sql<boolean>`actor_id = ${actor}::uuid`
        : sql<boolean>`(actor_email = ${actor} or actor_kind = ${actor})`),
    action !== undefined && sql<boolean>`action = ${action}`,
    target !== undefined &&
      (isUuid(target)
        ? sql<boolean>`target_id = ${target}`
        : sql<boolean>`(target_name = ${target} or target_type = ${target})`),
    projectId !== undefined && sql<boolean>`project_id = ${projectId}::uuid`,
    success !== undefined && (success ? sql<boolean>`success` : sql<boolean>`not success`),
    since && sql<boolean>`at >= ${since}`,
    until && sql<boolean>`at < ${until}`,
    after && sql<boolean>`(at, id) < (${after.at}, ${after.id}::bigint)`,
  ];
  const { rows } = await sql<AuditRow>`
    select * from audit_log where ${all(conditions.filter((c): c is Condition => c !== undefined && c !== false))}
     order by at desc, id desc limit ${page.limit}`.execute(db);
  return rows;
};

const isUuid = (text: string): boolean => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text);

/** Deletes rows older than `maxAgeSeconds`, at most `limit`; none that is not a day old. */
export const pruneAudit = async (
  db: Db,
  p: { readonly maxAgeSeconds: number; readonly limit: number },
): Promise<number> => {
  const { rows } = await sql<{ n: number }>`
    select prune_audit_log(now() - make_interval(secs => ${p.maxAgeSeconds}::float8), ${p.limit}::int) as n`.execute(
    db,
  );
  return rows[0]?.n ?? 0;
};
