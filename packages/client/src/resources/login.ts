import { HubResponseError } from "../errors.ts";
import type { Http } from "../http.ts";

/** What a program shows to a person who is to let it in from another machine, or from this one's browser (spec/03 3.3). */
export interface DeviceLogin {
  readonly deviceCode: string;
  readonly userCode: string;
  readonly verificationUrl: string;
  readonly verificationUrlComplete?: string;
  /** How long the code is good, in seconds. */
  readonly expiresIn: number;
  /** How long to wait before each question, in seconds. */
  readonly interval: number;
}

/** What a refresh token is exchanged for. */
export interface RefreshedTokens {
  readonly accessToken: string;
  readonly refreshToken: string;
  /** Of the access token, in seconds. */
  readonly expiresIn: number;
}

/** What a login gives. */
export interface LoginTokens extends RefreshedTokens {
  readonly user: { readonly id: string; readonly email: string; readonly displayName: string; readonly role: string };
}

/** What a program hears that asks whether it was let in. */
export type LoginAnswer =
  | { readonly kind: "done"; readonly tokens: LoginTokens }
  | { readonly kind: "pending" }
  /** Asked too soon: wait five seconds more from now on. */
  | { readonly kind: "slowDown" }
  | { readonly kind: "expired" };

/** Logins of programs. No token is needed for them. */
export class Login {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  /** Asks for a code. `program`: what the person is told that asks. */
  begin(program: string): Promise<DeviceLogin> {
    return this.#http.json("POST", "/api/v1/auth/cli/device", { body: {}, headers: { "user-agent": program } });
  }

  /** Whether a person has let the program in. Throws `HubResponseError` when they have refused. */
  async poll(deviceCode: string): Promise<LoginAnswer> {
    try {
      const answer = await this.#http.json<LoginTokens | { readonly status: string }>(
        "POST",
        "/api/v1/auth/cli/device/token",
        { body: { deviceCode } },
      );
      return "accessToken" in answer ? { kind: "done", tokens: answer } : { kind: "pending" };
    } catch (err) {
      if (err instanceof HubResponseError && err.status === 429) return { kind: "slowDown" };
      if (err instanceof HubResponseError && err.status === 410) return { kind: "expired" };
      throw err;
    }
  }

  /**
   * The next tokens for a refresh token, which is good once: within a minute it gives the same next ones again, after
   * that it ends the login. Throws `HubResponseError` 401 when the login is over.
   */
  refresh(refreshToken: string): Promise<RefreshedTokens> {
    return this.#http.json("POST", "/api/v1/auth/refresh", { body: { refreshToken }, repeatable: true });
  }

  /** Ends the login that a refresh token belongs to, at every replica. */
  end(refreshToken: string): Promise<void> {
    return this.#http.done("POST", "/api/v1/auth/logout", { body: { refreshToken } });
  }
}
