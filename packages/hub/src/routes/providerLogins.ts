import { HubError, invalidField } from "@rootstock/protocol";
import { type Db, findUserStanding, type SignInClient } from "@rootstock/store";
import { z } from "zod";
import type { SignIns } from "../auth/index.ts";
import { PROVIDER_NAMES, ProviderError, type Providers, type SignInProvider } from "../oauth/index.ts";
import type { People, ProvenIdentity } from "../people/index.ts";
import { anyone } from "./access.ts";
import { PUBLIC } from "./does.ts";
import { text } from "./fields.ts";
import { missingFields } from "./programLogins.ts";
import { type Reply, type Route, route } from "./route.ts";
import { signedIn, signedInReply } from "./userSessions.ts";

/**
 * Clients that have been at a provider by themselves, with this hub's own client id, and show what they got (spec/03 3.1).
 * What was made for another application, or for an address that is not verified, signs nobody in.
 */

export interface ProviderLoginDeps {
  readonly db: Db;
  readonly signIns: SignIns;
  readonly people: Pick<People, "signIn">;
  readonly providers: Pick<Providers, "all" | "find">;
}

const MAX_TOKEN = 16_384;
const MAX_URL = 2_048;

/** What both routes are: a door that anybody may knock at, and behind it whoever a provider vouches for. */
const DOOR = {
  method: "POST",
  access: anyone,
  limited: "login",
  does: PUBLIC,
  replies: { 200: signedInReply },
} as const;
const NOT_LET_IN = [
  "invalid_provider",
  "not_implemented",
  "unauthorized",
  "unauthorized_domain",
  "identity_not_linked",
  "user_suspended",
] as const;

export const providerLoginRoutes = (deps: ProviderLoginDeps): Route[] => [
  route({
    ...DOOR,
    path: "/api/v1/auth/login",
    body: z.object({ provider: text(100), providerToken: text(MAX_TOKEN) }),
    summary: "Tokens for somebody who shows a provider's token",
    refuses: [...NOT_LET_IN, "invalid_provider_token"],
    handler: async ({ body: { provider, providerToken } }) => {
      if (!provider || !providerToken) throw missingFields("provider", "providerToken");
      const found = providerOf(deps, provider);
      const identity = await found.identityOfToken(providerToken).catch((err: unknown) => {
        throw refusal(err, "invalid_provider_token", "failed to validate provider token");
      });
      return begin(deps, identity, "web");
    },
  }),
  route({
    ...DOOR,
    path: "/api/v1/auth/token",
    body: z.object({
      provider: text(100),
      code: text(MAX_TOKEN),
      redirectUri: text(MAX_URL),
      grantType: text(100),
      codeVerifier: text(128),
      clientType: text(20),
      /** Of the provider's answer (RFC 9207), for clients that hand it on. */
      iss: text(MAX_URL),
    }),
    summary: "Tokens for a provider's authorization code",
    refuses: [...NOT_LET_IN, "oauth_error"],
    handler: async ({ body }) => {
      const { code, redirectUri, grantType, codeVerifier, iss } = body;
      if (!code || !redirectUri || !grantType) throw missingFields("code", "redirectUri", "grantType");
      if (grantType !== "authorization_code") throw new HubError("invalid_request", "unsupported grant type");
      if (!URL.canParse(redirectUri)) throw invalidField("redirectUri", "redirectUri must be an address");
      const found = providerOf(deps, body.provider ?? guessed(deps, redirectUri));
      const identity = await found
        .identityOf({
          redirectUri,
          codeVerifier,
          params: new URLSearchParams({ code, ...(iss && { iss }) }),
          relayed: true,
        })
        .catch((err: unknown) => {
          throw refusal(err, "oauth_error", "failed to exchange authorization code");
        });
      return begin(deps, identity, body.clientType === "web" ? "web" : "cli", { tokenType: "Bearer" });
    },
  }),
];

/** As the original guesses where a client does not say at which provider it was. */
const guessed = ({ providers }: ProviderLoginDeps, redirectUri: string): string =>
  redirectUri.includes("github") ? "github" : (providers.all[0]?.name ?? "google");

/** Throws 400 `invalid_provider` for one that is unknown or not configured, 501 where none is. */
const providerOf = ({ providers }: ProviderLoginDeps, given: string): SignInProvider => {
  const name = PROVIDER_NAMES.find((known) => known === given.trim().toLowerCase());
  if (!name) throw new HubError("invalid_provider", "unsupported OAuth provider");
  if (providers.all.length === 0) throw new HubError("not_implemented", "OAuth is not configured on this hub");
  const found = providers.find(name);
  if (!found) throw new HubError("invalid_provider", `OAuth provider not configured: ${name}`);
  return found;
};

const refusal = (err: unknown, code: "invalid_provider_token" | "oauth_error", message: string): unknown => {
  if (!(err instanceof ProviderError)) return err;
  if (err.failure === "provider_unavailable")
    return new HubError("unavailable", "the provider does not answer; try again shortly", {
      retryAfter: 5,
      cause: err,
    });
  const why = err.failure === "email_unverified" ? ": the address is not verified" : "";
  return new HubError(code, message + why, { cause: err });
};

/** Tokens for somebody a provider vouches for, if they may come in. Throws what {@link People.signIn} throws. */
const begin = async (
  { db, people, signIns }: ProviderLoginDeps,
  identity: ProvenIdentity,
  client: SignInClient,
  more: Readonly<Record<string, string>> = {},
): Promise<Reply> => {
  const { id } = await people.signIn(identity);
  const user = await findUserStanding(db, id);
  if (!user) throw new HubError("unauthorized", "this account is gone; try again");
  return signedIn(db, user, await signIns.begin(user, client), more);
};
