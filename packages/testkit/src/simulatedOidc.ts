import type { IncomingMessage } from "node:http";
import { systemRandom } from "@rootstock/service";
import { AuthorizationServer, type Grant } from "./authorizationServer.ts";
import { type Account, IdentityProvider } from "./identityProvider.ts";
import { noteSecrets } from "./runRecord.ts";

/** An OpenID Connect provider with discovery, PKCE and signed ID tokens, on a port of its own. */
export class SimulatedOidc extends AuthorizationServer {
  /** Who signs in next. */
  account: Account = { sub: "1", email: "ann@example.org", email_verified: true, name: "Ann" };
  /** Changes what ID tokens say; undefined leaves a claim out. */
  claims: Readonly<Record<string, unknown>> = {};
  /** While true the address is told at the userinfo endpoint alone. */
  addressAside = false;
  protected readonly authorizePath = "/authorize";
  protected readonly tokenPath = "/token";
  readonly #signer: IdentityProvider;
  readonly #accounts = new Map<string, Account>();

  private constructor(signer: IdentityProvider) {
    super();
    this.#signer = signer;
  }

  static async start(): Promise<SimulatedOidc> {
    const provider = new SimulatedOidc(await IdentityProvider.start());
    await provider.listen();
    return provider;
  }

  /** What a replica needs to know of it, as `oidc` or in Google's place. */
  environment(as: "oidc" | "google" = "oidc"): Record<string, string> {
    const prefix = `ROOTSTOCK_${as.toUpperCase()}`;
    return {
      [`${prefix}_ISSUER`]: this.url,
      [`${prefix}_CLIENT_ID`]: this.clientId,
      [`${prefix}_CLIENT_SECRET`]: this.clientSecret,
    };
  }

  /** An ID token that it gives to `audience`. */
  idToken(account: Account, audience: string, over: Readonly<Record<string, unknown>> = {}): Promise<string> {
    return this.#signer.sign(account, audience, { iss: this.url, ...over });
  }

  /** Signs with a key that was not published before. */
  rotate(): Promise<void> {
    return this.#signer.rotate();
  }

  override async stop(): Promise<void> {
    await super.stop();
    await this.#signer.stop();
  }

  protected async tokensOf({ nonce }: Grant): Promise<object> {
    const { account } = this;
    const told = this.addressAside ? { email: undefined, email_verified: undefined, name: undefined } : {};
    const id_token = await this.idToken(account, this.clientId, { nonce, ...told, ...this.claims });
    const access_token = systemRandom.bytes(24).toString("base64url");
    noteSecrets(id_token, access_token);
    this.#accounts.set(access_token, account);
    return { access_token, token_type: "Bearer", expires_in: 300, id_token };
  }

  protected async more(url: URL, request: IncomingMessage): Promise<object | undefined> {
    if (url.pathname === "/.well-known/openid-configuration")
      return {
        issuer: this.url,
        authorization_endpoint: `${this.url}${this.authorizePath}`,
        token_endpoint: `${this.url}${this.tokenPath}`,
        userinfo_endpoint: `${this.url}/userinfo`,
        jwks_uri: this.#signer.jwksUrl,
        response_types_supported: ["code"],
        subject_types_supported: ["public"],
        id_token_signing_alg_values_supported: ["ES256"],
        code_challenge_methods_supported: ["S256"],
        authorization_response_iss_parameter_supported: this.iss !== undefined,
      };
    if (url.pathname === "/userinfo")
      return this.#accounts.get(request.headers.authorization?.replace(/^Bearer /, "") ?? "");
    return undefined;
  }

  protected refusal(error: string) {
    return { status: error === "invalid_client" ? 401 : 400, body: { error } };
  }
}
