import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { systemClock, systemRandom } from "@rootstock/service";
import { type CryptoKey, exportJWK, generateKeyPair, type JWK, type JWTPayload, SignJWT } from "jose";

/** Somebody as the provider knows them. */
export interface Account {
  readonly sub: string;
  readonly email: string;
  readonly email_verified?: boolean;
  readonly name?: string;
  readonly hd?: string;
}

interface SigningKey {
  readonly kid: string;
  readonly privateKey: CryptoKey;
  readonly publicJwk: JWK;
}

/** Signs who people are, as an identity-aware proxy or an OIDC provider does; serves its keys on a port of its own. */
export class IdentityProvider {
  /** How often its keys were fetched. */
  keyFetches = 0;
  /** While true its keys cannot be had. */
  down = false;
  readonly #server = createServer((request, response) => this.#serve(request, response));
  #published: SigningKey[] = [];

  static async start(): Promise<IdentityProvider> {
    const provider = new IdentityProvider();
    await provider.rotate();
    await new Promise<void>((resolve, reject) => {
      provider.#server.once("error", reject);
      provider.#server.listen(0, "127.0.0.1", resolve);
    });
    return provider;
  }

  get issuer(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get jwksUrl(): string {
    return `${this.issuer}/keys`;
  }

  /** Signs with a new key from now on; the ones before stay published unless `alone`. */
  async rotate(alone = false): Promise<void> {
    const { privateKey, publicKey } = await generateKeyPair("ES256");
    const kid = systemRandom.uuid();
    const key = { kid, privateKey, publicJwk: { ...(await exportJWK(publicKey)), kid, alg: "ES256", use: "sig" } };
    this.#published = alone ? [key] : [key, ...this.#published];
  }

  /** A token about `account`, good for ten minutes; `over` changes claims, undefined leaves one out. */
  async sign(account: Account, audience: string, over: Readonly<Record<string, unknown>> = {}): Promise<string> {
    const [key] = this.#published;
    if (!key) throw new Error("no key to sign with");
    const now = Math.floor(systemClock.now() / 1000);
    const claims: JWTPayload = { iss: this.issuer, aud: audience, iat: now, exp: now + 600, ...account, ...over };
    return new SignJWT(claims).setProtectedHeader({ alg: "ES256", kid: key.kid, typ: "JWT" }).sign(key.privateKey);
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    if (request.url !== "/keys") {
      response.writeHead(404).end();
      return;
    }
    this.keyFetches += 1;
    if (this.down) response.writeHead(503).end();
    else json(response, { keys: this.#published.map((k) => k.publicJwk) });
  }
}

const json = (response: ServerResponse, body: unknown): void => {
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body));
};
