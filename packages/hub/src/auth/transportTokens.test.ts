import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { type Clock, systemClock, systemRandom } from "@rootstock/service";
import { testLog } from "@rootstock/testkit";
import { createLocalJWKSet, jwtVerify, SignJWT } from "jose";
import { SigningKeys } from "./signingKeys.ts";
import { googleIssuer, localIssuer } from "./transportIssuers.ts";
import { type TransportTokenIssuer, TransportTokens, transportEnv } from "./transportTokens.ts";

const AUDIENCE = "https://hub.example.org";
/** Added to the clock, in milliseconds. */
let later = 0;
const clock: Clock = {
  ...systemClock,
  now: () => systemClock.now() + later,
  elapsed: () => systemClock.elapsed() + later,
};
const base = { clock, random: systemRandom, log: testLog() };
const MINUTE = 60_000;

/** A token that lasts so many seconds. */
const lasting = (seconds: number): Promise<string> =>
  new SignJWT({ jti: systemRandom.uuid(), exp: Math.floor(clock.now() / 1000) + seconds })
    .setProtectedHeader({ alg: "HS256" })
    .sign(Buffer.alloc(32));

/** An issuer whose tokens last an hour, and how often it was asked. */
const counted = (issue: () => Promise<string> = () => lasting(3_600)) => {
  const issuer = { asked: 0, down: false, issue: (): Promise<string> => Promise.reject(new Error("never")) };
  issuer.issue = async () => {
    issuer.asked += 1;
    if (issuer.down) throw new Error("down");
    return issue();
  };
  return issuer;
};
const tokensOf = (issuer: TransportTokenIssuer) => new TransportTokens({ ...base, issuer, audience: AUDIENCE });

beforeEach(() => {
  later = 0;
});

test("one token serves all agents for half its life", async () => {
  const issuer = counted();
  const tokens = tokensOf(issuer);
  const [first, second] = await Promise.all([tokens.current(), tokens.current()]);
  expect(first).toBe(second);
  expect(first).toMatchObject({ audience: AUDIENCE, value: expect.any(String) });
  later = 29 * MINUTE;
  expect(await tokens.current()).toBe(first);
  later = 31 * MINUTE;
  expect(await tokens.current()).not.toBe(first);
  expect(issuer.asked).toBe(2);
});

test("while none can be had the last one goes on serving until just before its end; nobody fails, nobody waits often", async () => {
  const issuer = counted();
  const tokens = tokensOf(issuer);
  const first = await tokens.current();
  issuer.down = true;
  later = 40 * MINUTE;
  expect(await tokens.current()).toBe(first);
  for (let i = 0; i < 10; i += 1) await tokens.current();
  expect(issuer.asked).toBe(2);
  later = 59.5 * MINUTE;
  expect(await tokens.current()).toBeUndefined();
  issuer.down = false;
  later = 61 * MINUTE;
  expect(await tokens.current()).toBeDefined();
});

test("a token that does not say when it ends counts for an hour", async () => {
  const opaque = await tokensOf(counted(async () => "opaque")).current();
  expect(opaque?.expiresAt.getTime()).toBeGreaterThan(clock.now() + 59 * MINUTE);
});

test("the container is told the token, its audience and its end, and nothing where there is none", () => {
  const token = { value: "t", audience: AUDIENCE, expiresAt: new Date("2026-06-01T10:00:00.123Z") };
  expect(transportEnv(token)).toEqual({
    SCION_TRANSPORT_TOKEN: "t",
    SCION_TRANSPORT_AUDIENCE: AUDIENCE,
    SCION_TRANSPORT_TOKEN_EXPIRY: "2026-06-01T10:00:00Z",
  });
  expect(transportEnv(undefined)).toEqual({});
});

test("tokens of the hub itself are verified with its published keys and are no other kind of token", async () => {
  const signingKeys = new SigningKeys(["a shared secret of at least 32 bytes"]);
  const issuer = localIssuer({
    ...base,
    signingKeys,
    issuer: "https://hub.example.org",
    serviceAccount: "a@b.example",
  });
  const token = await issuer.issue(AUDIENCE);
  const keys = createLocalJWKSet({ keys: signingKeys.jwks().keys.map((key) => ({ ...key })) });
  const { payload, protectedHeader } = await jwtVerify(token, keys, {
    issuer: "https://hub.example.org",
    audience: AUDIENCE,
  });
  expect(payload).toMatchObject({ email: "a@b.example", email_verified: true, sub: "a@b.example" });
  expect(protectedHeader.typ).toBe("rootstock-transport+jwt");
});

interface Asked {
  readonly method: string | undefined;
  readonly url: string | undefined;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

/** Answers as Google's metadata server and IAM Credentials do. */
class Google {
  readonly asked: Asked[] = [];
  answers: Record<string, { readonly status: number; readonly body: string }> = {};
  readonly #server: Server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const { method, url, headers } = request;
      this.asked.push({ method, url, headers, body: Buffer.concat(chunks).toString() });
      const answer = this.answers[method ?? ""] ?? { status: 404, body: "" };
      response.writeHead(answer.status, { "content-type": "application/json" }).end(answer.body);
    });
  });

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}

let google: Google;
let url: string;
beforeEach(async () => {
  google = new Google();
  url = await google.start();
});
afterEach(() => google.stop());
const ofGoogle = () =>
  googleIssuer({ fetch, serviceAccount: "agents@p.iam.gserviceaccount.com", iamUrl: url, metadataUrl: url });

test("Google is asked as IAM Credentials want it, with the token of the hub's own account", async () => {
  google.answers = {
    GET: { status: 200, body: JSON.stringify({ access_token: "own", expires_in: 3_599, token_type: "Bearer" }) },
    POST: { status: 200, body: JSON.stringify({ token: "id-token" }) },
  };
  expect(await ofGoogle().issue(AUDIENCE)).toBe("id-token");
  const [own, id] = google.asked;
  expect(own).toMatchObject({ url: "/computeMetadata/v1/instance/service-accounts/default/token" });
  expect(own?.headers["metadata-flavor"]).toBe("Google");
  expect(id?.url).toBe("/v1/projects/-/serviceAccounts/agents%40p.iam.gserviceaccount.com:generateIdToken");
  expect(id?.headers.authorization).toBe("Bearer own");
  expect(JSON.parse(id?.body ?? "")).toEqual({ audience: AUDIENCE, includeEmail: true });
});

test("whatever Google answers instead is a failure that quotes nothing of it", async () => {
  const own = { status: 200, body: JSON.stringify({ access_token: "own" }) };
  for (const answers of [
    {},
    { GET: { status: 200, body: "not JSON own-secret" } },
    { GET: { status: 200, body: JSON.stringify({ other: "own-secret" }) } },
    { GET: own, POST: { status: 403, body: "own-secret" } },
    { GET: own, POST: { status: 200, body: JSON.stringify({ token: 7, x: "own-secret" }) } },
    { GET: own, POST: { status: 200, body: `"${"x".repeat(100_000)}"` } },
  ]) {
    google.answers = answers;
    const failure: unknown = await ofGoogle()
      .issue(AUDIENCE)
      .catch((err: unknown) => err);
    expect(failure).toBeInstanceOf(Error);
    expect(String(failure)).not.toContain("own-secret");
    expect(await tokensOf(ofGoogle()).current()).toBeUndefined();
  }
});
