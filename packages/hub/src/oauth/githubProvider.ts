import {
  allowInsecureRequests,
  authorizationCodeGrant,
  buildAuthorizationUrl,
  ClientSecretPost,
  Configuration,
  customFetch,
  fetchProtectedResource,
} from "openid-client";
import { z } from "zod";
import { limitedText } from "../auth/index.ts";
import { type ProvenIdentity, parseAvatarUrl, parseDisplayName, parseEmail } from "../people/index.ts";
import { asked, PROVIDER_TIMEOUT_SECONDS } from "./failures.ts";
import { authorizationParameters, callbackUrl, checks, fetching, type ProviderDeps } from "./oidcProvider.ts";
import {
  type AuthorizationRequest,
  type AuthorizationResponse,
  ProviderError,
  type SignInProvider,
} from "./provider.ts";

/** GitHub, or a GitHub Enterprise Server, and what this hub is there. */
export interface GithubRules {
  readonly kind: "github";
  readonly name: "github";
  readonly label: string;
  /** Without slash at its end. */
  readonly url: string;
  readonly apiUrl: string;
  readonly clientId: string;
  readonly clientSecret: string;
  /** Whether it is asked without TLS: on this very machine only. */
  readonly plainHttp: boolean;
}

const SCOPE = "read:user user:email";
const MAX_BYTES = 1_048_576;

const account = z.object({
  id: z.number().int().positive(),
  login: z.string(),
  name: z.string().nullish(),
  avatar_url: z.string().nullish(),
});
const addresses = z.array(z.object({ email: z.string(), primary: z.boolean(), verified: z.boolean() }));
const checkedToken = z.object({ app: z.object({ client_id: z.string() }) });

/** People whom GitHub vouches for: plain OAuth, so that who they are and whether their address is theirs is asked. */
export class GithubProvider implements SignInProvider {
  readonly name = "github";
  readonly #rules: GithubRules;
  readonly #fetch: typeof fetch;
  readonly #config: Configuration;

  constructor(rules: GithubRules, deps: ProviderDeps) {
    this.#rules = rules;
    this.#fetch = deps.fetch;
    const { url, clientId, clientSecret, plainHttp } = rules;
    this.#config = new Configuration(
      {
        issuer: `${url}/login/oauth`,
        authorization_endpoint: `${url}/login/oauth/authorize`,
        token_endpoint: `${url}/login/oauth/access_token`,
      },
      clientId,
      {},
      ClientSecretPost(clientSecret),
    );
    this.#config.timeout = PROVIDER_TIMEOUT_SECONDS;
    this.#config[customFetch] = fetching(deps.fetch);
    if (plainHttp) allowInsecureRequests(this.#config);
  }

  get label(): string {
    return this.#rules.label;
  }

  get issuer(): string {
    return this.#rules.url;
  }

  async authorizeUrl(request: AuthorizationRequest): Promise<URL> {
    return buildAuthorizationUrl(this.#config, {
      scope: SCOPE,
      ...authorizationParameters({ ...request, nonce: undefined }),
    });
  }

  identityOf(response: AuthorizationResponse): Promise<ProvenIdentity> {
    return asked(async () => {
      const tokens = await authorizationCodeGrant(
        this.#config,
        callbackUrl(response, this.#config),
        checks({ ...response, nonce: undefined }),
      );
      return this.#identity(tokens.access_token);
    });
  }

  identityOfToken(token: string): Promise<ProvenIdentity> {
    return asked(async () => {
      const { apiUrl, clientId, clientSecret } = this.#rules;
      const response = await this.#fetch(`${apiUrl}/applications/${encodeURIComponent(clientId)}/token`, {
        method: "POST",
        headers: {
          accept: "application/vnd.github+json",
          authorization: `Basic ${Buffer.from(`${clientId}:${clientSecret}`).toString("base64")}`,
          "content-type": "application/json",
        },
        body: JSON.stringify({ access_token: token }),
        redirect: "error",
        signal: AbortSignal.timeout(PROVIDER_TIMEOUT_SECONDS * 1000),
      });
      const { app } = await read(response, checkedToken);
      if (app.client_id !== clientId) throw new ProviderError("exchange_failed", "made for another application");
      return this.#identity(token);
    });
  }

  async #identity(accessToken: string): Promise<ProvenIdentity> {
    const [user, emails] = await Promise.all([
      this.#get("/user", accessToken, account),
      this.#get("/user/emails", accessToken, addresses),
    ]);
    const email = parseEmail(emails.find((e) => e.primary && e.verified)?.email);
    if (!email) throw new ProviderError("email_unverified", "the primary address is not verified");
    return {
      issuer: this.#rules.url,
      // The login may be given to somebody else; the number never is.
      subject: String(user.id),
      email,
      displayName: parseDisplayName(user.name) || parseDisplayName(user.login),
      avatarUrl: parseAvatarUrl(user.avatar_url ?? undefined),
      hostedDomain: undefined,
    };
  }

  async #get<T>(path: string, accessToken: string, schema: z.ZodType<T>): Promise<T> {
    const url = new URL(`${this.#rules.apiUrl}${path}`);
    const headers = new Headers({ accept: "application/vnd.github+json" });
    return read(await fetchProtectedResource(this.#config, accessToken, url, "GET", undefined, headers), schema);
  }
}

const read = async <T>(response: Response, schema: z.ZodType<T>): Promise<T> => {
  const { status } = response;
  if (status >= 500) throw new ProviderError("provider_unavailable", `answered ${status}`);
  if (!response.ok) throw new ProviderError("exchange_failed", `answered ${status}`);
  const parsed = schema.safeParse(JSON.parse(await limitedText(response, MAX_BYTES)));
  if (!parsed.success) throw new ProviderError("exchange_failed", "answered something else than was asked");
  return parsed.data;
};
