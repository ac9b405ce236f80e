import { HubClient, HubResponseError, type RetryOptions, type TokenSource } from "@rootstock/client";
import type { Base } from "@rootstock/service";
import { CliError } from "./exitCodes.ts";
import type { Env } from "./flags.ts";
import { changeLogins, loginOf, type StoredLogin, storedLogin } from "./logins.ts";

export interface SessionOptions {
  readonly env: Env;
  readonly url: string;
  readonly base: Base;
  readonly retry: RetryOptions;
}

/** An access token that ends within this, in milliseconds, is not used any more: the call has to arrive before. */
const ENDS_SOON_MS = 60_000;

/**
 * What `rootstock login` has left, renewed when it ends. A refresh token is good once: of several commands at once one
 * exchanges it, while the others wait and then read what it has got.
 */
export class LoginSession implements TokenSource {
  readonly #options: SessionOptions;
  #login: StoredLogin;
  #renewal: Promise<StoredLogin> | undefined;

  constructor(login: StoredLogin, options: SessionOptions) {
    this.#login = login;
    this.#options = options;
  }

  /** Throws CliError when the login is over. */
  async current(): Promise<string> {
    const { accessToken, renewAt } = this.#login;
    if (!this.#isFresh(this.#login)) await this.#renew(accessToken);
    // In good time, so that it lasts over a holiday. What comes of it the call itself will show: the token is good still.
    else if (renewAt !== undefined && renewAt <= this.#options.base.clock.now())
      await this.#renew(accessToken).catch(() => this.#notNow());
    return this.#login.accessToken;
  }

  /** Throws CliError when the login is over. */
  async instead(refused: string): Promise<string> {
    if (this.#login.accessToken === refused) await this.#renew(refused);
    return this.#login.accessToken;
  }

  #notNow(): void {
    const { renewAt: _, ...login } = this.#login;
    this.#login = login;
  }

  #isFresh({ expiresAt }: StoredLogin): boolean {
    return expiresAt - this.#options.base.clock.now() > ENDS_SOON_MS;
  }

  /** One at a time, however many calls of this command find the token over. */
  async #renew(refused: string): Promise<void> {
    this.#renewal ??= this.#exchange(refused).finally(() => {
      this.#renewal = undefined;
    });
    this.#login = await this.#renewal;
  }

  #exchange(refused: string): Promise<StoredLogin> {
    const { env, url, base } = this.#options;
    return changeLogins(env, base.clock, async (store) => {
      const kept = storedLogin(env, url);
      if (!kept) throw new CliError(`you are not logged in to ${url} any more: log in with "rootstock login"`);
      // Another command has been here meanwhile.
      if (kept.accessToken !== refused && this.#isFresh(kept)) return kept;
      const renewed = await this.#refreshed(kept);
      store(url, renewed);
      return renewed;
    });
  }

  async #refreshed({ refreshToken }: StoredLogin): Promise<StoredLogin> {
    const { url, base, retry } = this.#options;
    try {
      return loginOf(await new HubClient({ baseUrl: url, retry }).login.refresh(refreshToken), base.clock.now());
    } catch (err) {
      if (!(err instanceof HubResponseError) || err.status !== 401) throw err;
      throw new CliError(`your login at ${url} is over (${err.message}): log in again with "rootstock login"`, {
        cause: err,
      });
    }
  }
}
