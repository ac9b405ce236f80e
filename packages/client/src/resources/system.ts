import type { Http } from "../http.ts";

/** `GET /auth/me`: who the token speaks for. */
export interface Me {
  readonly id: string;
  readonly email?: string;
  readonly displayName?: string;
  readonly role?: string;
}

/** `GET /healthz` (spec/02 section 8). */
export interface Health {
  readonly status: string;
  readonly version?: string;
  readonly scionVersion?: string;
  readonly uptime?: string;
}

/** What belongs to no resource: identity and health. */
export class System {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  me(): Promise<Me> {
    return this.#http.json("GET", "/api/v1/auth/me");
  }

  health(options: { readonly timeoutMs?: number } = {}): Promise<Health> {
    return this.#http.json("GET", "/healthz", options);
  }

  /** Resolves when the replica that answers is ready to serve; throws `HubResponseError` 503 while it is not. */
  ready(options: { readonly timeoutMs?: number } = {}): Promise<void> {
    return this.#http.done("GET", "/readyz", options);
  }
}
