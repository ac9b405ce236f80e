import { createHash } from "node:crypto";
import type { Clock, Log } from "@rootstock/service";
import {
  allowInsecureRequests,
  authorizationCodeGrant,
  buildAuthorizationUrl,
  type ClientAuth,
  ClientSecretBasic,
  ClientSecretPost,
  type Configuration,
  type CustomFetch,
  clockTolerance,
  customFetch,
  discovery,
  enableNonRepudiationChecks,
  fetchUserInfo,
  type IDToken,
} from "openid-client";
import { AssertionVerifier, identityOf, TokenError } from "../auth/index.ts";
import { Fresh, type ProvenIdentity } from "../people/index.ts";
import { asked, PROVIDER_TIMEOUT_SECONDS } from "./failures.ts";
import {
  type AuthorizationRequest,
  type AuthorizationResponse,
  ProviderError,
  type ProviderName,
  type SignInProvider,
} from "./provider.ts";

/** An OpenID Connect provider and what this hub is there. */
export interface OidcRules {
  readonly kind: "oidc";
  readonly name: ProviderName;
  readonly label: string;
  /** Its discovery document is below this address. */
  readonly issuer: string;
  readonly clientId: string;
  readonly clientSecret: string;
  readonly scope: string;
  /** Parameters besides, of the address that browsers are sent to. */
  readonly more: Readonly<Record<string, string>>;
  /** Whether an address counts of which the provider does not say that it is verified. */
  readonly trustsEmails: boolean;
  /** Whether it is asked without TLS: on this very machine only. */
  readonly plainHttp: boolean;
}

export interface ProviderDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly fetch: typeof fetch;
}

/** A discovery document is asked for again after this, in milliseconds. */
const FRESH_MS = 3_600_000;
const LEEWAY_SECONDS = 30;
/** What ID tokens may be signed with that clients hand in by themselves: nothing whose key signs as well as verifies. */
const TOKEN_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];

/** People whom an OpenID Connect provider vouches for: Google, and whichever else. */
export class OidcProvider implements SignInProvider {
  readonly #rules: OidcRules;
  readonly #deps: ProviderDeps;
  readonly #discovered: Fresh<string, { readonly config: Configuration; readonly verifier: AssertionVerifier }>;

  constructor(rules: OidcRules, deps: ProviderDeps) {
    this.#rules = rules;
    this.#deps = deps;
    this.#discovered = new Fresh(deps.clock, FRESH_MS, (issuer) => this.#discover(issuer));
  }

  get name(): ProviderName {
    return this.#rules.name;
  }

  get label(): string {
    return this.#rules.label;
  }

  get issuer(): string {
    return this.#rules.issuer;
  }

  authorizeUrl(request: AuthorizationRequest): Promise<URL> {
    return asked(async () => {
      const { config } = await this.#discovered.get(this.#rules.issuer);
      return buildAuthorizationUrl(config, {
        ...this.#rules.more,
        scope: this.#rules.scope,
        ...authorizationParameters(request),
      });
    });
  }

  identityOf(response: AuthorizationResponse): Promise<ProvenIdentity> {
    return asked(async () => {
      const { config } = await this.#discovered.get(this.#rules.issuer);
      const tokens = await authorizationCodeGrant(config, callbackUrl(response, config), {
        idTokenExpected: true,
        ...checks(response),
      });
      const claims = tokens.claims();
      if (!claims) throw new ProviderError("exchange_failed", "answered without an ID token");
      const told = claims.email === undefined ? await this.#userInfo(config, tokens.access_token, claims) : {};
      return this.#identity({ ...claims, ...told });
    });
  }

  identityOfToken(token: string): Promise<ProvenIdentity> {
    return asked(async () => {
      if (token.split(".").length !== 3)
        throw new ProviderError("exchange_failed", "only an ID token tells for whom it was made");
      const { verifier } = await this.#discovered.get(this.#rules.issuer);
      try {
        const claims = await verifier.claims(token);
        if (claims.azp !== undefined && claims.azp !== this.#rules.clientId)
          throw new ProviderError("exchange_failed", "made for another application");
        return this.#identity(claims);
      } catch (err) {
        if (err instanceof TokenError) throw new ProviderError("exchange_failed", err.message, { cause: err });
        throw err;
      }
    });
  }

  /** Some providers keep the address out of the ID token. */
  async #userInfo(config: Configuration, accessToken: string, { sub }: IDToken) {
    if (config.serverMetadata().userinfo_endpoint === undefined) return {};
    const { email, email_verified, name, picture } = await fetchUserInfo(config, accessToken, sub);
    return { email, email_verified, ...(name && { name }), ...(picture && { picture }) };
  }

  #identity(claims: Readonly<Record<string, unknown>>): ProvenIdentity {
    const verified = claims.email_verified;
    const unsaid = verified === undefined && this.#rules.trustsEmails;
    if (verified !== true && verified !== "true" && !unsaid)
      throw new ProviderError("email_unverified", "the address is not verified");
    try {
      return identityOf(claims, String(claims.iss));
    } catch (err) {
      if (err instanceof TokenError) throw new ProviderError("exchange_failed", err.message, { cause: err });
      throw err;
    }
  }

  async #discover(issuer: string) {
    const { clientId, clientSecret, plainHttp } = this.#rules;
    const { clock, log, fetch } = this.#deps;
    const config = await discovery(
      new URL(issuer),
      clientId,
      { [clockTolerance]: LEEWAY_SECONDS },
      clientAuth(clientSecret),
      {
        timeout: PROVIDER_TIMEOUT_SECONDS,
        [customFetch]: fetching(fetch),
        // The ID token's signature is checked, though it comes from the provider itself: its keys are published for that.
        execute: [enableNonRepudiationChecks, ...(plainHttp ? [allowInsecureRequests] : [])],
      },
    );
    const server = config.serverMetadata();
    const verifier = new AssertionVerifier({
      rules: {
        header: "",
        issuer: server.issuer,
        audience: clientId,
        jwksUrl: server.jwks_uri ?? "",
        algorithms: TOKEN_ALGORITHMS,
      },
      clock,
      log,
      fetch,
    });
    return { config, verifier };
  }
}

/** The library's way of fetching, by ours. */
export const fetching =
  (fetch: ProviderDeps["fetch"]): CustomFetch =>
  (url, { body, signal, ...rest }) =>
    fetch(url, { ...rest, ...(body !== undefined && { body }), ...(signal && { signal }) });

/** In the body where the provider says that it takes it there, else in the header, which every provider must take. */
const clientAuth = (secret: string): ClientAuth => {
  const [post, basic] = [ClientSecretPost(secret), ClientSecretBasic(secret)];
  return (server, ...rest) =>
    (server.token_endpoint_auth_methods_supported?.includes("client_secret_post") ? post : basic)(server, ...rest);
};

/** What every provider is sent with a browser. */
export const authorizationParameters = ({ redirectUri, state, nonce, codeVerifier }: AuthorizationRequest) => ({
  redirect_uri: redirectUri,
  state,
  ...(nonce !== undefined && { nonce }),
  ...(codeVerifier !== undefined && {
    code_challenge: createHash("sha256").update(codeVerifier).digest("base64url"),
    code_challenge_method: "S256",
  }),
});

/** The address that the browser came back to. The library compares its `iss`, where there is one, with the provider's. */
export const callbackUrl = ({ redirectUri, params, relayed }: AuthorizationResponse, config: Configuration): URL => {
  if (!params.has("error") && !params.get("code")) throw new ProviderError("no_code", "came back without a code");
  const url = new URL(redirectUri);
  url.search = params.toString();
  if (relayed && !params.has("iss")) url.searchParams.set("iss", config.serverMetadata().issuer);
  return url;
};

/** What the answer must fit. */
export const checks = ({ state, nonce, codeVerifier }: AuthorizationResponse) => ({
  ...(state !== undefined && { expectedState: state }),
  ...(nonce !== undefined && { expectedNonce: nonce }),
  ...(codeVerifier !== undefined && { pkceCodeVerifier: codeVerifier }),
});
