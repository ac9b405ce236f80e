import { HubError, invalidField, isStorable, notFound } from "@rootstock/protocol";
import type { Random } from "@rootstock/service";
import {
  type AllowListEntry,
  allowedById,
  countAllowed,
  type Db,
  deleteAllowed,
  emailDomains,
  insertAllAllowed,
  insertAllowed,
  listAllowed,
} from "@rootstock/store";
import { z } from "zod";
import { parseEmail } from "../people/index.ts";
import { count, id, pageFields, some, statusReply, time, timeOrZero, timestamp } from "../wire/index.ts";
import { admins } from "./access.ts";
import { listJson, pageQuery } from "./pages.ts";
import { type Call, json, type Route, route } from "./route.ts";

/** Addresses that may sign in (spec/03 6.5). */

const PATH = "/api/v1/admin/allow-list";
const MAX_NOTE = 1_000;
const MAX_IMPORT = 1_000;
const SIZES = { usual: 50, max: 200, first: 50 };

const note = z
  .string()
  .max(MAX_NOTE)
  .nullish()
  .transform((s) => s ?? "");
const addBody = z.object({ email: z.string().max(320), note });
const importBody = z.object({ emails: z.array(z.object({ email: z.string(), note: z.string().nullish() })) });

const entryReply = z.object({
  id,
  email: z.string(),
  note: z.string(),
  addedBy: z.string(),
  inviteId: id.optional(),
  created: timestamp,
  inviteCodePrefix: z.string().optional(),
  inviteMaxUses: count.optional(),
  inviteUseCount: count.optional(),
  inviteExpiresAt: timestamp.optional(),
  inviteRevoked: z.boolean().optional(),
  inviteExpired: z.boolean().optional(),
});

export interface AllowListDeps {
  readonly db: Db;
  readonly random: Random;
  /** Called after a commit that the change log tells of. */
  readonly changed: () => void;
}

export const allowListRoutes = ({ db, random, changed }: AllowListDeps): Route[] => [
  route({
    method: "GET",
    path: PATH,
    access: admins,
    does: { action: "read", on: "hub" },
    query: z.object(pageQuery),
    summary: "The allow list",
    replies: { 200: z.object({ ...pageFields, items: z.array(entryReply) }) },
    handler: async ({ query }) =>
      json(
        200,
        await listJson({
          list: "allow-list",
          filters: {},
          given: query,
          sizes: SIZES,
          rows: (page) => listAllowed(db, page),
          position: (id) => allowedById(db, id),
          count: () => countAllowed(db),
          as: "items",
          toJson: entryJson,
        }),
      ),
  }),
  route({
    method: "POST",
    path: PATH,
    access: admins,
    does: { action: "update", on: "hub" },
    body: addBody,
    summary: "Puts an address on the allow list",
    replies: { 201: entryReply },
    refuses: ["conflict"],
    handler: async ({ body, principal, log }) => {
      const email = parseEmail(body.email);
      if (!email) throw new HubError("invalid_request", "a valid email is required");
      const entry = await insertAllowed(db, {
        id: random.uuid(),
        email,
        note: body.note,
        addedBy: callerId(principal),
      });
      if (!entry) throw new HubError("conflict", `${email} is on the allow list already`);
      changed();
      log().info({ email, actorId: callerId(principal) }, "allow list: added");
      return json(201, entryJson(entry));
    },
  }),
  route({
    method: "POST",
    path: `${PATH}/import`,
    access: admins,
    does: { action: "update", on: "hub" },
    summary: "Puts many addresses on the allow list, from JSON or a CSV file",
    replies: { 200: z.object({ added: count, skipped: count, total: count }) },
    reads: { "application/json": importBody, "multipart/form-data": z.object({ file: z.string() }) },
    handler: async (call) => {
      const entries = importedEntries(call);
      const unique = new Map(entries.map((e) => [e.email, e]));
      const rows = [...unique.values()].map((e) => ({ id: random.uuid(), ...e }));
      const added = await insertAllAllowed(db, rows, callerId(call.principal));
      changed();
      call.log().info({ count: added, actorId: callerId(call.principal) }, "allow list: added many");
      return json(200, { added, skipped: entries.length - added, total: entries.length });
    },
  }),
  route({
    method: "GET",
    path: `${PATH}/domains`,
    access: admins,
    does: { action: "read", on: "hub" },
    summary: "The domains of the addresses of all people",
    replies: { 200: z.object({ domains: z.array(z.string()) }) },
    handler: async () => json(200, { domains: await emailDomains(db) }),
  }),
  route({
    method: "DELETE",
    path: `${PATH}/:email`,
    access: admins,
    does: { action: "update", on: "hub" },
    summary: "Takes an address off the allow list",
    replies: { 200: statusReply("removed") },
    handler: async ({ params, principal, log }) => {
      const email = params.email ?? "";
      if (!isStorable(email) || !(await deleteAllowed(db, email))) throw notFound("Allow list entry");
      changed();
      log().info({ email, actorId: callerId(principal) }, "allow list: removed");
      return json(200, { status: "removed" });
    },
  }),
];

/** The id of who calls a route for admins. */
export const callerId = (principal: Call["principal"]): string => {
  if (principal.kind !== "user") throw new HubError("forbidden", "only users may do this");
  return principal.id;
};

const entryJson = (e: Omit<AllowListEntry, InviteColumn> & Partial<Pick<AllowListEntry, InviteColumn>>) => ({
  id: e.id,
  email: e.email,
  note: e.note,
  addedBy: e.added_by ?? "",
  ...some("inviteId", e.invite_id),
  created: time(e.created),
  ...(e.code_prefix !== undefined && {
    ...some("inviteCodePrefix", e.code_prefix),
    ...some("inviteMaxUses", e.max_uses),
    ...some("inviteUseCount", e.use_count),
    inviteExpiresAt: timeOrZero(e.expires_at ?? null),
    ...some("inviteRevoked", e.revoked),
    ...some("inviteExpired", e.expired),
  }),
});
type InviteColumn = "code_prefix" | "max_uses" | "use_count" | "expires_at" | "revoked" | "expired";

interface Imported {
  readonly email: string;
  readonly note: string;
}

/** What is to be imported, without what is no address. Throws 400. */
const importedEntries = (call: Call): readonly Imported[] => {
  const given = /^multipart\/form-data/i.test(call.headers.get("content-type") ?? "")
    ? csvEntries(uploadedFile(call))
    : jsonEntries(call.rawBody);
  if (given.length === 0 || given.length > MAX_IMPORT)
    throw new HubError("invalid_request", `between 1 and ${MAX_IMPORT} entries are required`);
  return given.flatMap((entry) => {
    const email = parseEmail(entry.email);
    return email && isStorable(entry.note) ? [{ email, note: entry.note.slice(0, MAX_NOTE) }] : [];
  });
};

const jsonEntries = (body: Buffer): readonly Imported[] => {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body.toString("utf8"));
  } catch (cause) {
    throw new HubError("invalid_request", "the body is no JSON", { cause });
  }
  const read = importBody.safeParse(parsed);
  if (!read.success) throw invalidField("emails", "emails: a list of {email, note} is required");
  return read.data.emails.map((e) => ({ email: e.email, note: e.note ?? "" }));
};

/** The text of the part called `file`. Not by the platform's parser: that refuses what many clients send. */
const uploadedFile = (call: Call): string => {
  const [, quoted, bare] = /boundary=(?:"([^"]+)"|([^\s;]+))/i.exec(call.headers.get("content-type") ?? "") ?? [];
  const boundary = quoted ?? bare;
  if (!boundary) throw new HubError("invalid_request", "the form has no boundary");
  const parts = `\r\n${call.rawBody.toString("utf8")}`.split(`\r\n--${boundary}`);
  const head = (part: string) => part.slice(0, part.indexOf("\r\n\r\n"));
  const file = parts.find((part) => part.includes("\r\n\r\n") && /[;\s]name="?file"?\s*(;|\r\n|$)/i.test(head(part)));
  if (file === undefined) throw new HubError("invalid_request", "the form has no file");
  return file.slice(file.indexOf("\r\n\r\n") + 4);
};

/** `email,note` per line; the note may be in quotes. A first line without an address is the header. */
const csvEntries = (csv: string): readonly Imported[] =>
  csv
    .replace(/^\uFEFF/, "")
    .split(/\r?\n/)
    .filter((line, i) => line.trim() !== "" && (i > 0 || line.includes("@")))
    .map((line) => {
      const comma = line.indexOf(",");
      const [email, rest] = comma < 0 ? [line, ""] : [line.slice(0, comma), line.slice(comma + 1).trim()];
      const quoted = /^"((?:[^"]|"")*)"/.exec(rest)?.[1];
      return { email: email.replaceAll('"', ""), note: quoted?.replaceAll('""', '"') ?? rest };
    });
