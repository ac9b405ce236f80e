import { randomUUID } from "node:crypto";
import { HubResponseError, HubUnreachableError, responseError } from "./errors.ts";

export interface RetryOptions {
  /** How many times a request is sent at most, the first one included. */
  readonly attempts: number;
  /** Waits between two attempts, with the number of attempts made so far. */
  readonly wait: (attempt: number) => Promise<void>;
}

/** A token that is exchanged for another while the client lives. */
export interface TokenSource {
  /** The token to send now. */
  current(): Promise<string>;
  /** Another token for one that the hub did not take; undefined when there is none. */
  instead(refused: string): Promise<string | undefined>;
}

export interface HttpOptions {
  /** Scheme, host and port of the hub (or of the load balancer before it); a trailing `/` does not matter. */
  readonly baseUrl: string;
  /** Bearer token, or what has one; without it only the public calls work. */
  readonly token?: string | TokenSource | undefined;
  /** The whole time for one request in milliseconds; 30,000 by default, as long as the hub may take (spec/02 1.1). */
  readonly timeoutMs?: number | undefined;
  /**
   * Repeats a request that got no answer, when repeating is safe: a GET, or a call with an idempotency key. A replica
   * that dies with the call in its hands then costs nothing but the wait. Without this option nothing is repeated.
   */
  readonly retry?: RetryOptions | undefined;
  /** The `fetch` to use; the platform's by default. */
  readonly fetch?: typeof fetch | undefined;
  /** Makes idempotency keys; random UUIDs by default. */
  readonly newKey?: (() => string) | undefined;
}

export type QueryValue = string | number | boolean | undefined;

export interface RequestOptions {
  /** Undefined values are left out. */
  readonly query?: Readonly<Record<string, QueryValue>> | undefined;
  /** Sent as JSON. */
  readonly body?: unknown;
  /**
   * Sent as `Idempotency-Key`: the same key with the same call is executed once, whichever replicas it reaches.
   * `"auto"` makes a new key for this call, which its repetitions share.
   */
  readonly idempotencyKey?: string | undefined;
  /** Whether a call without a key may be sent again all the same: asked twice, it does what it does once. */
  readonly repeatable?: boolean | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

/** Values of these methods may be asked for again without changing anything. */
const isSafe = (method: Method): boolean => method === "GET";

const withoutTrailingSlash = (url: string): string => url.replace(/\/+$/, "");

/** One hub as an HTTP server: addresses, credentials, time limits, errors and safe repetition. */
export class Http {
  readonly baseUrl: string;
  readonly #options: HttpOptions;
  readonly #fetch: typeof fetch;

  constructor(options: HttpOptions) {
    this.baseUrl = withoutTrailingSlash(options.baseUrl);
    this.#options = options;
    this.#fetch = options.fetch ?? fetch;
  }

  /**
   * The JSON that the hub answers. `T` is what the hub documents for the call; it is not checked field by field.
   * @throws HubResponseError for a status of 400 and above, and for an answer that should be JSON and is not
   * @throws HubUnreachableError when no answer came in time
   */
  async json<T>(method: Method, path: string, options: RequestOptions = {}): Promise<T> {
    const { status, headers, text } = await this.#send(method, path, options);
    try {
      return JSON.parse(text);
    } catch {
      const message = `${method} ${path} was answered with ${headers.get("content-type") ?? "no type"} instead of JSON`;
      throw new HubResponseError({ status, code: "invalid_answer", message });
    }
  }

  /** For calls whose answer has no body of use (204, or one that is not read). Throws like `json`. */
  async done(method: Method, path: string, options: RequestOptions = {}): Promise<void> {
    await this.#send(method, path, options);
  }

  /** The open answer of a call that never ends by itself, such as an event stream. The caller reads or cancels its body. */
  async stream(path: string, options: RequestOptions & { readonly signal: AbortSignal }): Promise<Response> {
    const response = await this.#authorized((token) =>
      this.#fetchOnce("GET", path, options, this.#headers(options, undefined, token), options.signal),
    );
    if (response.status >= 400) throw responseError(response.status, response.headers, await response.text());
    return response;
  }

  async #send(method: Method, path: string, options: RequestOptions) {
    const key = options.idempotencyKey === "auto" ? this.#newKey() : options.idempotencyKey;
    const { attempts, wait } = this.#options.retry ?? { attempts: 1, wait: async () => {} };
    const repeatable = isSafe(method) || key !== undefined || options.repeatable === true;
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#once(method, path, options, key);
      } catch (err) {
        if (!repeatable || attempt >= attempts || options.signal?.aborted || !hasNoAnswerYet(err)) throw err;
        await wait(attempt);
      }
    }
  }

  async #once(method: Method, path: string, options: RequestOptions, key: string | undefined) {
    const limit = AbortSignal.timeout(options.timeoutMs ?? this.#options.timeoutMs ?? 30_000);
    const signal = options.signal ? AbortSignal.any([options.signal, limit]) : limit;
    const response = await this.#authorized((token) =>
      this.#fetchOnce(method, path, options, this.#headers(options, key, token), signal),
    );
    const text = await response.text().catch((cause: unknown) => {
      throw new HubUnreachableError(`the answer to ${method} ${path} broke off`, { cause, timedOut: limit.aborted });
    });
    if (response.status >= 400) throw responseError(response.status, response.headers, text);
    return { status: response.status, headers: response.headers, text };
  }

  /** Sends with the token of now, and once more with another when the hub does not take it: a refused call did nothing. */
  async #authorized(send: (token: string | undefined) => Promise<Response>): Promise<Response> {
    const { token } = this.#options;
    if (typeof token !== "object") return send(token);
    const sent = await token.current();
    const response = await send(sent);
    if (response.status !== 401) return response;
    const other = await token.instead(sent);
    if (other === undefined) return response;
    await response.body?.cancel();
    return send(other);
  }

  async #fetchOnce(
    method: Method,
    path: string,
    options: RequestOptions,
    headers: Record<string, string>,
    signal: AbortSignal,
  ): Promise<Response> {
    const url = new URL(`${this.baseUrl}${path}`);
    for (const [name, value] of Object.entries(options.query ?? {})) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    const body = options.body === undefined ? null : JSON.stringify(options.body);
    try {
      return await this.#fetch(url, { method, headers, body, signal, redirect: "manual" });
    } catch (cause) {
      const timedOut = textOf(cause, "name") === "TimeoutError";
      const message = timedOut
        ? `${this.baseUrl} did not answer ${method} ${path} in time`
        : `cannot reach the hub at ${this.baseUrl}${reason(cause)}`;
      throw new HubUnreachableError(message, { cause, timedOut });
    }
  }

  #headers(options: RequestOptions, key: string | undefined, token: string | undefined): Record<string, string> {
    return {
      accept: "application/json",
      ...(token && { authorization: `Bearer ${token}` }),
      ...(options.body !== undefined && { "content-type": "application/json" }),
      ...(key !== undefined && { "idempotency-key": key }),
      ...options.headers,
    };
  }

  #newKey(): string {
    return this.#options.newKey?.() ?? randomUUID();
  }
}

/** The connection broke, or the call that an earlier attempt began is still under way on some replica. */
const hasNoAnswerYet = (err: unknown): boolean =>
  err instanceof HubUnreachableError
    ? !err.timedOut
    : err instanceof HubResponseError && err.code === "request_in_progress";

/** A text property of whatever was thrown. By shape, not `instanceof`: the platform's errors may be of another realm. */
const textOf = (thrown: unknown, name: string): string | undefined => {
  if (typeof thrown !== "object" || thrown === null) return undefined;
  const value: unknown = Reflect.get(thrown, name);
  return typeof value === "string" ? value : undefined;
};

/** What `fetch` hides one level down: `ECONNREFUSED` says more than "fetch failed". */
const reason = (thrown: unknown): string => {
  const cause: unknown = typeof thrown === "object" && thrown !== null ? Reflect.get(thrown, "cause") : undefined;
  const code = textOf(cause, "code");
  return code ? ` (${code})` : "";
};
