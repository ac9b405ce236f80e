import { TEST_TOKEN } from "./replicas.ts";
import { noteAnswerHeaders, noteSecretsIn, noteSecretsSent, noteSecretsTaken } from "./runRecord.ts";

/** What a replica answered. */
export class ApiReply {
  readonly status: number;
  readonly headers: Headers;
  /** The body as it came. */
  readonly body: string;
  /** The body as JSON; undefined where it is none. */
  readonly json: unknown;

  constructor(status: number, headers: Headers, body: string) {
    this.status = status;
    this.headers = headers;
    this.body = body;
    this.json = parse(body);
  }

  /** What is at a path such as `agent.id` or `results.0.status`; undefined when nothing is. */
  get(path: string): unknown {
    let value = this.json;
    for (const key of path.split("."))
      value = typeof value === "object" && value !== null ? Reflect.get(value, key) : undefined;
    return value;
  }

  /** The text at a path. Throws with the whole answer when there is none. */
  text(path: string): string {
    const value = this.get(path);
    if (typeof value !== "string") throw new Error(`no text at ${path} of ${this.status} ${this.body}`);
    return value;
  }

  /** The list at a path; empty when there is none. */
  list(path: string): readonly unknown[] {
    const value = this.get(path);
    return Array.isArray(value) ? value : [];
  }
}

export interface ApiOptions {
  readonly token?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as it is, instead of JSON. */
  readonly raw?: string | Uint8Array<ArrayBuffer>;
  readonly signal?: AbortSignal;
  /** `manual`: a redirect is the answer. It is followed otherwise. */
  readonly redirect?: "follow" | "manual";
}

/** Calls a replica as the development user. */
export const api = async (
  replica: { readonly url: string },
  method: string,
  path: string,
  body?: unknown,
  options: ApiOptions = {},
): Promise<ApiReply> => {
  const payload = options.raw ?? (body === undefined ? undefined : JSON.stringify(body));
  const headers = {
    authorization: `Bearer ${options.token ?? TEST_TOKEN}`,
    ...(payload !== undefined && { "content-type": "application/json" }),
    ...options.headers,
  };
  noteSecretsSent(headers, body);
  const response = await fetch(`${replica.url}${path}`, {
    method,
    headers,
    ...(payload !== undefined && { body: payload }),
    ...(options.signal && { signal: options.signal }),
    ...(options.redirect && { redirect: options.redirect }),
  });
  const text = await response.text();
  noteSecretsIn(text);
  noteAnswerHeaders(response.headers);
  if (response.ok) noteSecretsTaken(body);
  return new ApiReply(response.status, response.headers, text);
};

const parse = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};
