import { request as httpRequest } from "node:http";
import { noteAnswerHeaders } from "./runRecord.ts";

/** What a browser got. */
export interface Visit {
  readonly url: URL;
  readonly status: number;
  readonly headers: Headers;
  readonly body: string;
}

export interface TestBrowserOptions {
  /** The hub as the browser knows it. */
  readonly hub: string;
  /** Where it is reached: each request goes to the next one. */
  readonly replicas: readonly { readonly url: string }[];
  /** Sent with each request to the hub, as a proxy before it adds them. */
  readonly headers?: () => Promise<Readonly<Record<string, string>>>;
}

const MOST_REDIRECTS = 20;

/**
 * A browser without a screen: it follows redirects, keeps cookies by host as browsers do, says with forms where it comes
 * from, and opens a connection of its own for each request.
 */
export class TestBrowser {
  /** Cookies by host (ports do not count), then by name. */
  readonly cookies = new Map<string, Map<string, string>>();
  /** Each request that it made, in order. */
  readonly visited: string[] = [];
  readonly #options: TestBrowserOptions;
  #turn = 0;

  constructor(options: TestBrowserOptions) {
    this.#options = options;
  }

  /** Looks at an address, or at a path of the hub, following redirects to the end. `until`: stops before going there. */
  async open(address: string, until?: (url: URL) => boolean): Promise<Visit> {
    return this.#follow(new URL(address, this.#options.hub), "GET", undefined, until);
  }

  /** Sends a form of a page of the hub. */
  async submit(path: string, fields: Readonly<Record<string, string>>): Promise<Visit> {
    return this.#follow(new URL(path, this.#options.hub), "POST", new URLSearchParams(fields).toString());
  }

  /** One request as it is, without following anything. */
  async ask(
    path: string,
    method = "GET",
    headers: Readonly<Record<string, string>> = {},
    body?: string,
  ): Promise<Visit> {
    return this.#request(new URL(path, this.#options.hub), method, body, headers);
  }

  /** The cookies that the hub would be sent. */
  cookieHeader(): string {
    return this.#cookieHeader(new URL(this.#options.hub));
  }

  async #follow(first: URL, method: string, body: string | undefined, until?: (url: URL) => boolean): Promise<Visit> {
    let visit = await this.#request(first, method, body, {
      accept: "text/html",
      ...(body !== undefined && {
        origin: first.origin,
        "content-type": "application/x-www-form-urlencoded",
      }),
    });
    for (let i = 0; i < MOST_REDIRECTS; i += 1) {
      const location = visit.headers.get("location");
      if (visit.status < 300 || visit.status > 399 || location === null) return visit;
      const next = new URL(location, visit.url);
      if (until?.(next)) return { ...visit, url: next };
      visit = await this.#request(next, "GET", undefined, { accept: "text/html" });
    }
    throw new Error(`redirected for ever: ${this.visited.join(" -> ")}`);
  }

  async #request(
    url: URL,
    method: string,
    body: string | undefined,
    headers: Readonly<Record<string, string>>,
  ): Promise<Visit> {
    const toHub = url.origin === new URL(this.#options.hub).origin;
    const { replicas } = this.#options;
    const target = toHub ? new URL(replicas[this.#turn++ % replicas.length]?.url ?? url.origin) : url;
    const cookie = this.#cookieHeader(url);
    this.visited.push(`${method} ${url.origin}${url.pathname}`);
    const more = toHub ? await this.#options.headers?.() : undefined;
    return new Promise((resolve, reject) => {
      const request = httpRequest(
        {
          host: target.hostname,
          port: target.port,
          method,
          path: url.pathname + url.search,
          // No connection is kept: the next request may land anywhere.
          agent: false,
          headers: { host: url.host, ...(cookie && { cookie }), ...more, ...headers },
        },
        (response) => {
          const chunks: Buffer[] = [];
          response.on("data", (chunk: Buffer) => chunks.push(chunk));
          response.once("error", reject);
          response.once("end", () => {
            const got = new Headers();
            for (const [name, values] of Object.entries(response.headersDistinct))
              for (const value of values ?? []) got.append(name, value);
            this.#keep(url, got.getSetCookie());
            noteAnswerHeaders(got);
            const text = Buffer.concat(chunks).toString("utf8");
            resolve({ url, status: response.statusCode ?? 0, headers: got, body: text });
          });
        },
      );
      request.once("error", reject);
      request.end(body);
    });
  }

  #cookieHeader(url: URL): string {
    const jar = this.cookies.get(url.hostname) ?? new Map<string, string>();
    return [...jar].map(([name, value]) => `${name}=${value}`).join("; ");
  }

  #keep(url: URL, lines: readonly string[]): void {
    const jar = this.cookies.get(url.hostname) ?? new Map<string, string>();
    this.cookies.set(url.hostname, jar);
    for (const line of lines) {
      const [, name = "", value = ""] = /^([^=;]+)=([^;]*)/.exec(line) ?? [];
      if (value === "" || /;\s*max-age=0(;|$)/i.test(line)) jar.delete(name);
      else jar.set(name, value);
    }
  }
}
