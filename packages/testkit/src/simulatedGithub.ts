import type { IncomingMessage } from "node:http";
import { systemRandom } from "@rootstock/service";
import { AuthorizationServer } from "./authorizationServer.ts";
import { noteSecrets } from "./runRecord.ts";

/** Somebody as GitHub knows them. */
export interface GithubAccount {
  readonly id: number;
  readonly login: string;
  readonly name?: string;
  readonly emails: readonly { readonly email: string; readonly primary: boolean; readonly verified: boolean }[];
}

const API = "/api/v3";

/** GitHub as far as signing in goes: plain OAuth, errors in answers of 200, and an API that says who somebody is. */
export class SimulatedGithub extends AuthorizationServer {
  /** Who signs in next. */
  account: GithubAccount = {
    id: 7,
    login: "ann",
    name: "Ann",
    emails: [{ email: "ann@example.org", primary: true, verified: true }],
  };
  protected readonly authorizePath = "/login/oauth/authorize";
  protected readonly tokenPath = "/login/oauth/access_token";
  readonly #tokens = new Map<string, { readonly account: GithubAccount; readonly clientId: string }>();

  static async start(): Promise<SimulatedGithub> {
    const github = new SimulatedGithub();
    await github.listen();
    return github;
  }

  /** What a replica needs to know of it. */
  environment(): Record<string, string> {
    return {
      ROOTSTOCK_GITHUB_URL: this.url,
      ROOTSTOCK_GITHUB_CLIENT_ID: this.clientId,
      ROOTSTOCK_GITHUB_CLIENT_SECRET: this.clientSecret,
    };
  }

  /** An access token of the present account for an application. */
  tokenFor(clientId: string): string {
    const token = `gho_${systemRandom.bytes(24).toString("base64url")}`;
    noteSecrets(token);
    this.#tokens.set(token, { account: this.account, clientId });
    return token;
  }

  protected async tokensOf(): Promise<object> {
    return { access_token: this.tokenFor(this.clientId), token_type: "bearer", scope: "read:user,user:email" };
  }

  protected async more(url: URL, request: IncomingMessage, body: string): Promise<object | undefined> {
    if (url.pathname === `${API}/applications/${this.clientId}/token`) {
      const { access_token: shown } = JSON.parse(body) as { access_token: string };
      const known = this.#tokens.get(shown);
      return this.isClient(request, new URLSearchParams()) && known?.clientId === this.clientId
        ? { app: { client_id: known.clientId } }
        : undefined;
    }
    const known = this.#tokens.get(request.headers.authorization?.replace(/^(Bearer|token) /i, "") ?? "");
    if (!known) return undefined;
    const { emails, ...user } = known.account;
    if (url.pathname === `${API}/user`) return user;
    return url.pathname === `${API}/user/emails` ? emails : undefined;
  }

  protected refusal(error: string) {
    return { status: 200, body: { error: error === "invalid_grant" ? "bad_verification_code" : error } };
  }
}
