import { invalidField, type Uuid } from "@rootstock/protocol";
import { type AuditFilter, type AuditPosition, type AuditRow, type Db, listAudit } from "@rootstock/store";
import { z } from "zod";
import { anyObject, invalidCursor, some, time, timestamp } from "../wire/index.ts";
import { admins, users } from "./access.ts";
import { optionalUuid, plainProjectOf } from "./lookup.ts";
import { pageLimit, pageQuery } from "./pages.ts";
import { json, type Reply, type Route, route } from "./route.ts";

/** Who did what (spec/03 section 7): for admins all of it, for who may change a project what concerns it. */

const SIZES = { usual: 100, max: 1_000, first: 100 };

const text = z.string().max(512).optional();
const auditQuery = z.object({
  ...pageQuery,
  /** An id, an e-mail address, or a kind (`user`, `agent`, `system`, …). */
  actor: text,
  action: text,
  /** An id, a name, or a type. */
  target: text,
  result: z.enum(["success", "failure"]).optional(),
  since: text,
  until: text,
});
type AuditQuery = z.output<typeof auditQuery>;

const named = { id: z.string(), name: z.string(), email: z.string(), kind: z.string(), type: z.string() };
const auditReply = z.object({
  items: z.array(
    z.object({
      id: z.string(),
      at: timestamp,
      action: z.string(),
      result: z.enum(["success", "failure"]),
      reason: z.string().optional(),
      actor: z.object(named).pick({ kind: true, id: true, email: true }).partial({ id: true, email: true }),
      credential: z.object(named).pick({ kind: true, id: true }).partial({ id: true }).optional(),
      from: z.object({ address: z.string(), userAgent: z.string(), requestId: z.string() }).partial(),
      target: z.object(named).pick({ type: true, id: true, name: true }).partial({ id: true, name: true }),
      projectId: z.string().optional(),
      details: anyObject,
    }),
  ),
  nextCursor: z.string().optional(),
});

export const auditRoutes = ({ db }: { readonly db: Db }): Route[] => [
  route({
    method: "GET",
    path: "/api/v1/admin/audit",
    access: admins,
    does: { action: "read", on: "hub" },
    query: auditQuery.extend({ project: text }),
    summary: "Who did what, on what, from where",
    replies: { 200: auditReply },
    handler: ({ query }) => page(db, query, optionalUuid("project", query.project)),
  }),
  route({
    method: "GET",
    path: "/api/v1/projects/:projectId/audit",
    access: users,
    does: { action: "update", on: "project" },
    query: auditQuery,
    summary: "Who did what in a project",
    replies: { 200: auditReply },
    handler: async (call) => page(db, call.query, (await plainProjectOf(db, call)).id),
  }),
];

const page = async (db: Db, query: AuditQuery, projectId: Uuid | undefined): Promise<Reply> => {
  const filter: AuditFilter = {
    actor: query.actor || undefined,
    action: query.action || undefined,
    target: query.target || undefined,
    projectId,
    success: query.result && query.result === "success",
    since: timeOf("since", query.since),
    until: timeOf("until", query.until),
  };
  const limit = pageLimit(query, SIZES);
  const after = query.cursor ? decode(query.cursor) : undefined;
  const found = await listAudit(db, filter, { limit: limit + 1, after });
  const rows = found.slice(0, limit);
  const last = found.length > limit ? rows.at(-1) : undefined;
  return json(200, { items: rows.map(auditJson), ...some("nextCursor", last && encode(last)) });
};

const timeOf = (field: string, given: string | undefined): Date | undefined => {
  if (!given) return undefined;
  const read = z.iso.datetime({ offset: true }).safeParse(given);
  if (!read.success) throw invalidField(field, `${field}: want a time such as 2026-01-31T12:00:00Z`);
  return new Date(read.data);
};

const encode = ({ at, id }: AuditPosition): string => Buffer.from(`${at.getTime()} ${id}`).toString("base64url");

/** Good with any filters: a place in the log is the same in all of them. */
const decode = (cursor: string): AuditPosition => {
  const [, at, id] = /^(\d{1,15}) (\d{1,18})$/.exec(Buffer.from(cursor, "base64url").toString("utf8")) ?? [];
  if (at === undefined || id === undefined) throw invalidCursor("the cursor is damaged");
  return { at: new Date(Number(at)), id };
};

const auditJson = (r: AuditRow) => ({
  id: r.id,
  at: time(r.at),
  action: r.action,
  result: r.success ? "success" : "failure",
  ...some("reason", r.reason),
  actor: { kind: r.actor_kind, ...some("id", r.actor_id), ...some("email", r.actor_email) },
  ...(r.credential && { credential: { kind: r.credential, ...some("id", r.credential_id) } }),
  from: {
    ...some("address", r.address),
    ...some("userAgent", r.user_agent),
    ...some("requestId", r.request_id),
  },
  target: { type: r.target_type, ...some("id", r.target_id), ...some("name", r.target_name) },
  ...some("projectId", r.project_id),
  details: r.details,
});
