import { invalidField, notFound, parseUuid, type Uuid } from "@rootstock/protocol";
import { type Db, type IdentityRow, userById } from "@rootstock/store";
import { z } from "zod";
import type { ProxyLogin } from "../auth/index.ts";
import type { Providers } from "../oauth/index.ts";
import { GOOGLE_ISSUER, type LinkedSignIns, namesOfIssuer } from "../people/index.ts";
import { id, some, time, timestamp } from "../wire/index.ts";
import { admins, users } from "./access.ts";
import { demandedOf } from "./does.ts";
import { userOf } from "./groupLookup.ts";
import { demand, userResource } from "./rights.ts";
import { type Asking, empty, json, type Route, route } from "./route.ts";
import { NO_BODY } from "./shapes.ts";

/**
 * The sign-ins that open an account: people see and unlink their own, administrators everybody's. They are linked in a
 * browser alone, where somebody can prove both of them.
 */

export interface IdentityDeps {
  readonly db: Db;
  readonly linkedSignIns: Pick<LinkedSignIns, "list" | "unlink">;
  readonly providers: Pick<Providers, "all">;
  readonly proxyLogin: Pick<ProxyLogin, "provenBy">;
}

const OWN = "/api/v1/auth/identities";
const OF_USER = "/api/v1/users/:userId/identities";

const identityReply = z
  .object({
    id,
    issuer: z.string(),
    subject: z.string(),
    provider: z.string().optional(),
    label: z.string(),
    email: z.string(),
    created: timestamp,
    lastUsed: timestamp,
  })
  .meta({ id: "Identity" });
const listReply = z.object({ identities: z.array(identityReply) });

/** How people know an issuer: the provider whose it is, if one is configured, and its name. */
export const wayOf = (
  { all }: Pick<Providers, "all">,
  issuer: string,
): { readonly provider?: string; readonly label: string } => {
  const found = all.find((provider) => namesOfIssuer(provider.issuer).includes(issuer));
  if (found) return { provider: found.name, label: found.label };
  if (issuer === GOOGLE_ISSUER) return { label: "Google" };
  return { label: URL.canParse(issuer) ? new URL(issuer).host || issuer : issuer };
};

export const identityRoutes = ({ db, linkedSignIns, providers, proxyLogin }: IdentityDeps): Route[] => {
  const shown = (row: IdentityRow) => {
    const { provider, label } = wayOf(providers, row.issuer);
    return {
      id: row.id,
      issuer: row.issuer,
      subject: row.subject,
      ...some("provider", provider),
      label,
      email: row.email,
      created: time(row.created),
      lastUsed: time(row.last_login),
    };
  };
  const listed = async (userId: Uuid) => json(200, { identities: (await linkedSignIns.list(userId)).map(shown) });

  /** The user of `:userId`, for administrators. Throws 404. */
  const userNamed = async ({ params, principal, does }: Asking): Promise<Uuid> => {
    const userId = parseUuid(params.userId ?? "");
    const user = userId && (await userById(db, userId));
    if (!user) throw notFound("User");
    await demand(principal, demandedOf(does, "user"), userResource(user));
    return user.id;
  };

  return [
    route({
      method: "GET",
      path: OWN,
      access: users,
      does: { action: "list", on: "self" },
      summary: "The sign-ins that open the caller's account",
      replies: { 200: listReply },
      handler: ({ principal }) => listed(userOf(principal).id),
    }),
    route({
      method: "DELETE",
      path: `${OWN}/:identityId`,
      access: users,
      does: { action: "delete", on: "self" },
      summary: "Unlinks a sign-in from the caller's account, never the last one; signs the caller out everywhere",
      replies: { 204: NO_BODY },
      refuses: ["conflict"],
      handler: async ({ principal, params, credentials }) => {
        // Beside another credential than a cookie what a proxy says is not looked at.
        const inUse = credentials.headers.has("authorization") ? undefined : await proxyLogin.provenBy(credentials);
        await linkedSignIns.unlink(userOf(principal).id, identityId(params), { evenLast: false, inUse });
        return empty();
      },
    }),
    route({
      method: "GET",
      path: OF_USER,
      access: admins,
      does: { action: "read", on: "user" },
      summary: "The sign-ins that open a person's account",
      replies: { 200: listReply },
      handler: async (call) => listed(await userNamed(call)),
    }),
    route({
      method: "DELETE",
      path: `${OF_USER}/:identityId`,
      access: admins,
      does: { action: "update", on: "user" },
      summary:
        "Unlinks a sign-in from a person's account; without any, whoever is vouched for with its address takes it",
      replies: { 204: NO_BODY },
      handler: async (call) => {
        await linkedSignIns.unlink(await userNamed(call), identityId(call.params), { evenLast: true });
        return empty();
      },
    }),
  ];
};

const identityId = (params: Readonly<Record<string, string>>): Uuid => {
  const found = parseUuid(params.identityId ?? "");
  if (!found) throw invalidField("identityId", "identityId must be a UUID");
  return found;
};
