import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { systemRandom } from "@rootstock/service";
import { noteSecrets } from "./runRecord.ts";

/** What somebody has agreed to, until the client fetches its tokens. */
export interface Grant {
  readonly redirectUri: string;
  readonly codeChallenge: string | undefined;
  readonly nonce: string | undefined;
}

/** An OAuth 2 server that a test runs: it knows one client, and everybody agrees at once unless it is told to ask. */
export abstract class AuthorizationServer {
  readonly clientId = "rootstock-client";
  readonly clientSecret = `client-secret-${systemRandom.uuid()}`;
  /** While true browsers get a page with buttons, as people do; else they are sent back at once. */
  asks = false;
  /** While true everybody says no. */
  refuses = false;
  /** What its answers name as where they come from (RFC 9207), if anything; then it promises that they do. */
  iss: string | undefined;
  /** How often a code was exchanged for tokens. */
  exchanges = 0;
  readonly #server = createServer((request, response) => {
    this.#serve(request, response).catch(() => response.writeHead(500).end());
  });
  readonly #codes = new Map<string, Grant>();

  protected abstract readonly authorizePath: string;
  protected abstract readonly tokenPath: string;

  async listen(): Promise<void> {
    noteSecrets(this.clientSecret);
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(0, "127.0.0.1", resolve);
    });
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  /** What the token endpoint answers for a code; or an error as that server has it. */
  protected abstract tokensOf(grant: Grant): Promise<object>;
  /** Everything besides: false when there is nothing at that path. */
  protected abstract more(url: URL, request: IncomingMessage, body: string): Promise<object | undefined>;
  protected abstract refusal(error: string): { readonly status: number; readonly body: object };

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", this.url);
    const body = await textOf(request);
    if (url.pathname === this.authorizePath) this.#authorize(url, response);
    else if (url.pathname === this.tokenPath && request.method === "POST")
      await this.#token(request, new URLSearchParams(body), response);
    else {
      const answer = await this.more(url, request, body);
      if (answer === undefined) response.writeHead(404).end();
      else json(response, 200, answer);
    }
  }

  #authorize(url: URL, response: ServerResponse): void {
    const q = url.searchParams;
    noteSecrets(q.get("state"), q.get("nonce"));
    const redirectUri = q.get("redirect_uri") ?? "";
    if (q.get("client_id") !== this.clientId || q.get("response_type") !== "code" || !URL.canParse(redirectUri)) {
      response.writeHead(400).end("not a client of mine");
      return;
    }
    if (this.asks && !q.has("answer")) {
      const link = (answer: string) => {
        const to = new URL(url);
        to.searchParams.set("answer", answer);
        return to.href.replaceAll("&", "&amp;");
      };
      response
        .writeHead(200, { "content-type": "text/html; charset=utf-8" })
        .end(`<!doctype html><title>Provider</title><a id="yes" href="${link("yes")}">Yes, it is me</a>
          <a id="no" href="${link("no")}">No</a>`);
      return;
    }
    const back = new URL(redirectUri);
    const state = q.get("state");
    if (state !== null) back.searchParams.set("state", state);
    if (this.iss !== undefined) back.searchParams.set("iss", this.iss);
    if (this.refuses || q.get("answer") === "no") back.searchParams.set("error", "access_denied");
    else {
      const code = systemRandom.bytes(24).toString("base64url");
      noteSecrets(code);
      this.#codes.set(code, {
        redirectUri,
        codeChallenge: q.get("code_challenge") ?? undefined,
        nonce: q.get("nonce") ?? undefined,
      });
      back.searchParams.set("code", code);
    }
    response.writeHead(302, { location: back.href }).end();
  }

  async #token(request: IncomingMessage, form: URLSearchParams, response: ServerResponse): Promise<void> {
    const code = form.get("code") ?? "";
    noteSecrets(form.get("code_verifier"));
    const grant = this.#codes.get(code);
    this.#codes.delete(code);
    const refuse = (error: string) => {
      const { status, body } = this.refusal(error);
      json(response, status, body);
    };
    if (!this.isClient(request, form)) return refuse("invalid_client");
    const verifier = form.get("code_verifier");
    const challenge = verifier === null ? undefined : createHash("sha256").update(verifier).digest("base64url");
    if (!grant || grant.redirectUri !== form.get("redirect_uri") || grant.codeChallenge !== challenge)
      return refuse("invalid_grant");
    this.exchanges += 1;
    json(response, 200, await this.tokensOf(grant));
  }

  /** Whether a request shows the client's secret, in the header or in the form. */
  protected isClient(request: IncomingMessage, form: URLSearchParams): boolean {
    const basic = Buffer.from(request.headers.authorization?.replace(/^Basic /, "") ?? "", "base64").toString();
    const [id = "", secret = ""] = request.headers.authorization
      ? basic.split(":").map(decodeURIComponent)
      : [form.get("client_id") ?? "", form.get("client_secret") ?? ""];
    return id === this.clientId && secret === this.clientSecret;
  }
}

const textOf = async (request: IncomingMessage): Promise<string> => {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks).toString("utf8");
};

const json = (response: ServerResponse, status: number, body: object): void => {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
};
