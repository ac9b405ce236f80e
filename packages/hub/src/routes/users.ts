import { HubError, invalidField, notFound, parseUuid, type Uuid } from "@rootstock/protocol";
import {
  changeUser,
  countUsers,
  type Db,
  deleteUser,
  listUsers,
  readableUser,
  type UserOrder,
  type UserRow,
  userById,
  userPosition,
  usersNamed,
} from "@rootstock/store";
import { z } from "zod";
import { isAdmin, type Principal, type SignIns } from "../auth/index.ts";
import { parseDisplayName } from "../people/index.ts";
import { capabilities, ITEM_ACTIONS, pageFields, userJson, userReply } from "../wire/index.ts";
import { admins, authenticated, users } from "./access.ts";
import { demandedOf, NOTHING } from "./does.ts";
import { choice, MAX_NAME, text } from "./fields.ts";
import { listJson, pageQuery } from "./pages.ts";
import { demand, demandReadAnd, readRules, readScope, userResource } from "./rights.ts";
import { type Asking, empty, json, type Route, route } from "./route.ts";
import { NO_BODY } from "./shapes.ts";

/**
 * People (spec/03 6.1). Everybody sees who is here; what one may do is for admins to change, one's own name and
 * preferences for oneself (weak point 12). Programs with a token of a person see and change none of it (weak point 29).
 */

export interface UserRouteDeps {
  readonly db: Db;
  readonly signIns: Pick<SignIns, "endAll">;
  /** Called after a commit that the change log tells of: every replica forgets what it knew of the user. */
  readonly changed: () => void;
}

const PATH = "/api/v1/users";
const SIZES = { usual: 50, max: 200, first: 50 };
const MAX_SEARCH = 320;

const role = choice("admin", "member", "viewer");
const status = choice("active", "suspended");

const listQuery = z.object({
  ...pageQuery,
  role,
  status,
  search: text(MAX_SEARCH),
  sort: choice("created", "name", "lastSeen"),
  dir: choice("asc", "desc"),
});

const preferences = z
  .object({ defaultTemplate: text(256), defaultProfile: text(256), theme: text(64) })
  .nullish()
  .transform((given) => given && Object.fromEntries(Object.entries(given).filter(([, v]) => v !== undefined)));

const patchBody = z.object({ displayName: text(MAX_NAME), role, status, preferences });

export const userRoutes = ({ db, signIns, changed }: UserRouteDeps): Route[] => [
  route({
    method: "GET",
    path: PATH,
    access: users,
    does: { action: "list", on: "user" },
    query: listQuery,
    summary: "People",
    replies: { 200: z.object({ ...pageFields, users: z.array(userReply) }) },
    handler: async ({ principal, query }) => {
      const { limit, cursor, sort, dir, ...named } = query;
      const by = sort ?? "created";
      const order: UserOrder = { by, descending: (dir ?? (by === "name" ? "asc" : "desc")) === "desc" };
      const readable = readableUser(await readScope(principal), await readRules(principal, "user"));
      const filter = { ...named, readable };
      return json(
        200,
        await listJson({
          list: "users",
          filters: { ...named, ...order },
          given: { limit, cursor },
          sizes: SIZES,
          rows: (page) => listUsers(db, filter, order, page),
          position: async (id) => {
            const user = await userById(db, id);
            return user && userPosition(order, { ...user, sort_name: user.display_name.toLowerCase() });
          },
          standsAt: (user) => userPosition(order, user),
          count: () => countUsers(db, filter),
          as: "users",
          toJson: (user) => shown(principal, user),
        }),
      );
    },
  }),
  route({
    method: "POST",
    path: PATH,
    access: authenticated,
    does: NOTHING,
    summary: "Accounts are made by signing in: refused",
    replies: {},
    handler: () => {
      throw new HubError("forbidden", "accounts are made by signing in; put the address on the allow list instead");
    },
  }),
  route({
    method: "GET",
    path: `${PATH}/:userId`,
    access: users,
    does: { action: "read", on: "user" },
    summary: "One person",
    replies: { 200: userReply },
    handler: async (call) => json(200, shown(call.principal, await userOf(db, call))),
  }),
  route({
    method: "PATCH",
    path: `${PATH}/:userId`,
    access: users,
    does: { action: "update", on: "user" },
    body: patchBody,
    summary: "Changes a person",
    replies: { 200: userReply },
    refuses: ["conflict"],
    handler: async (call) => {
      const { principal, body, log } = call;
      const user = await userOf(db, call);
      const displayName = body.displayName && (parseDisplayName(body.displayName) || undefined);
      if (displayName && !isAdmin(principal)) await demandOwnName(db, user, displayName);
      const change = {
        ...(displayName && { displayName }),
        ...(body.preferences && { preferences: body.preferences }),
        // What stays as it is needs no right: pages send back all that they were given.
        ...(body.role && body.role !== user.role && { role: body.role }),
        ...(body.status && body.status !== user.status && { status: body.status }),
      };
      if (!isAdmin(principal) && ("role" in change || "status" in change))
        throw new HubError("forbidden", "only admins change roles and suspend people");
      const done = await changeUser(db, user.id, change);
      if (done.kind === "gone") throw notFound("User");
      if (done.kind === "last_admin") throw lastAdmin();
      changed();
      if ("role" in change || "status" in change)
        log().info(
          { userId: user.id, actorId: idOf(principal), role: done.user.role, status: done.user.status },
          "user changed",
        );
      return json(200, shown(principal, done.user));
    },
  }),
  route({
    method: "POST",
    path: `${PATH}/:userId/sign-out-everywhere`,
    access: users,
    does: { action: "update", on: "user" },
    summary: "Ends all that signing in has given a person, everywhere",
    replies: { 204: NO_BODY },
    handler: async (call) => {
      const user = await userOf(db, call);
      await signIns.endAll(user.id);
      call.log().info({ userId: user.id, actorId: idOf(call.principal) }, "user signed out everywhere");
      return empty();
    },
  }),
  route({
    method: "DELETE",
    path: `${PATH}/:userId`,
    access: admins,
    does: { action: "delete", on: "user" },
    summary: "Deletes a person",
    replies: { 204: NO_BODY },
    refuses: ["conflict"],
    handler: async ({ params, principal, does, log }) => {
      const id = parseUuid(params.userId ?? "");
      if (!id) throw invalidField("id", "id must be a UUID");
      await demand(principal, demandedOf(does, "user"), userResource({ id }));
      const done = await deleteUser(db, id);
      if (done === "gone") throw notFound("User");
      if (done === "last_admin") throw lastAdmin();
      changed();
      log().info({ userId: id, actorId: idOf(principal) }, "user deleted");
      return empty();
    },
  }),
];

const lastAdmin = (): HubError =>
  new HubError("conflict", "this is the last active admin: make somebody else an admin first");

const idOf = (principal: Principal): Uuid | undefined => (principal.kind === "user" ? principal.id : undefined);

/** Throws 409 for a name that is somebody else's, or their address: agents are told names, and would take one for the other. */
const demandOwnName = async (db: Db, user: UserRow, displayName: string): Promise<void> => {
  if (displayName.toLowerCase() === user.display_name.toLowerCase()) return;
  const others = (await usersNamed(db, displayName, 2)).filter((named) => named.id !== user.id);
  if (others.length > 0)
    throw new HubError("conflict", "somebody else goes by this name", { details: { field: "displayName" } });
};

/** The user as the caller may see them. */
const shown = (principal: Principal, user: UserRow) => {
  const own = isAdmin(principal) || idOf(principal) === user.id;
  const can = capabilities(ITEM_ACTIONS.user, (action) => action === "read" || own);
  return userJson(user, can, own);
};

/** The user of `:userId`. Throws 404 when the caller may not see them, 403 when it may not do what the route does. */
const userOf = async (db: Db, call: Asking): Promise<UserRow> => {
  const id = parseUuid(call.params.userId ?? "");
  const user = id && (await userById(db, id));
  if (!user) throw notFound("User");
  await demandReadAnd(call.principal, demandedOf(call.does, "user"), userResource(user), "User");
  return user;
};
