import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import {
  type ApiReply,
  api,
  eventually,
  IdentityProvider,
  noteSecrets,
  type Replica,
  Scene,
  SimulatedOidc,
  TEST_TOKEN,
  TestBrowser,
} from "@rootstock/testkit";

/** Programs that get tokens for a person, with every request on another replica (spec/03 3.1 to 3.3). */

const HUB = "http://hub.test";
const AUDIENCE = "/projects/1/global/backendServices/2";
let scene: Scene;
let oidc: SimulatedOidc;
let turn = 0;

beforeEach(async () => {
  scene = await Scene.create();
  oidc = await SimulatedOidc.start();
  scene.onEnd(() => oidc.stop());
});
afterEach(() => scene.end());

const replicas = async (env?: Readonly<Record<string, string>>): Promise<readonly Replica[]> => {
  const all = { SCION_DEV_TOKEN: "", ROOTSTOCK_PUBLIC_URL: HUB, ...(env ?? oidc.environment()) };
  return [await scene.replica(all), await scene.replica(all)];
};
/** As the CLI calls: without a credential, whichever replica answers. */
const ask = (both: readonly Replica[], method: string, path: string, body?: unknown): Promise<ApiReply> => {
  turn += 1;
  const replica = both[turn % both.length];
  if (!replica) throw new Error("no replica");
  const headers = { authorization: "", "user-agent": "scion-client/1.0" };
  return api(replica, method, `/api/v1${path}`, body, { headers });
};
const meOf = (both: readonly Replica[], token: string) =>
  Promise.all(both.map((replica) => api(replica, "GET", "/api/v1/auth/me", undefined, { token })));
const browserAt = (both: readonly Replica[]) => new TestBrowser({ hub: HUB, replicas: both });

/** The program's own listener, which the browser is sent to. */
const listener = async () => {
  const got: URLSearchParams[] = [];
  const server = createServer((request, response) => {
    const { searchParams } = new URL(request.url ?? "/", "http://127.0.0.1");
    noteSecrets(searchParams.get("code") ?? undefined);
    got.push(searchParams);
    response.end("Authentication Successful");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  scene.onEnd(
    () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  );
  return { callbackUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/callback`, got };
};

/** The hidden field of a page's form. */
const field = (body: string, name: string): string =>
  new RegExp(`name="${name}" value="([^"]*)"`).exec(body)?.[1] ?? "";

const beginLogin = async (both: readonly Replica[], provider?: string) => {
  const { callbackUrl, got } = await listener();
  const authorize = await ask(both, "POST", "/auth/cli/authorize", { callbackUrl, state: "st+at/e=", provider });
  expect([authorize.status, authorize.body]).toEqual([200, expect.stringContaining(`${HUB}/authorize?request=`)]);
  return { callbackUrl, got, url: authorize.text("url") };
};

test("a person allows the CLI in the browser, signing in on the way; its code is good once (spec/03 3.2)", async () => {
  const both = await replicas();
  const providers = await ask(both, "GET", "/auth/providers?clientType=cli");
  expect(providers.json).toEqual({ clientType: "cli", providers: ["oidc"] });
  const { callbackUrl, got, url } = await beginLogin(both, "oidc");
  const browser = browserAt(both);
  // The one provider there is: straight there, and back to the question.
  const asked = await browser.open(url);
  expect([asked.status, asked.url.pathname]).toEqual([200, "/authorize"]);
  for (const shown of ["ann@example.org", "scion-client/1.0", "127.0.0.1", callbackUrl, "30 days"])
    expect(asked.body).toContain(shown);
  expect(asked.headers.get("content-security-policy")).toContain(`form-action 'self' ${new URL(callbackUrl).origin};`);
  const request = field(asked.body, "request");
  const done = await browser.submit("/authorize", { request, decision: "allow" });
  expect(done.body).toContain("Authentication Successful");
  expect([got[0]?.get("state"), got[0]?.get("iss")]).toEqual(["st+at/e=", HUB]);
  const code = got[0]?.get("code") ?? "";
  const wrong = await ask(both, "POST", "/auth/cli/token", { code, callbackUrl: `${callbackUrl}2` });
  expect([wrong.status, wrong.get("error.code")]).toEqual([400, "oauth_error"]);
  const tokens = await ask(both, "POST", "/auth/cli/token", { code, callbackUrl, provider: "oidc" });
  expect(tokens.json).toEqual({
    accessToken: expect.any(String),
    refreshToken: expect.any(String),
    expiresIn: 2_592_000,
    expiresAt: expect.any(String),
    user: { id: expect.any(String), email: "ann@example.org", displayName: "Ann", role: "member" },
  });
  const token = tokens.text("accessToken");
  for (const me of await meOf(both, token)) expect(me.json).toEqual(tokens.get("user"));
  expect((await ask(both, "POST", "/auth/cli/token", { code, callbackUrl })).status).toBe(400);
  await eventually(async () => (await meOf(both, token)).every((me) => me.status === 401), 2_000);
});

test("who says no sends the CLI away without a code; who is signed in already is asked nothing else", async () => {
  const both = await replicas();
  const browser = browserAt(both);
  await browser.open("/auth/login/oidc");
  const { got, url } = await beginLogin(both);
  const asked = await browser.open(url);
  expect(asked.url.pathname).toBe("/authorize");
  await browser.submit("/authorize", { request: field(asked.body, "request"), decision: "deny" });
  expect(Object.fromEntries(got[0] ?? [])).toMatchObject({
    error: "access_denied",
    state: "st+at/e=",
    iss: HUB,
  });
  expect(await scene.database.query("select 1 from login_codes")).toEqual([]);
});

test("no page of another site says yes, and no link that was made up or is old asks", async () => {
  const both = await replicas();
  const browser = browserAt(both);
  await browser.open("/auth/login/oidc");
  const { url } = await beginLogin(both);
  const request = new URL(url).searchParams.get("request") ?? "";
  const body = new URLSearchParams({ request, decision: "allow" }).toString();
  const form = { "content-type": "application/x-www-form-urlencoded", accept: "text/html" };
  for (const origin of [{}, { origin: "https://evil.example" }, { "sec-fetch-site": "cross-site" }])
    expect((await browser.ask("/authorize", "POST", { ...form, ...origin }, body)).status).toBe(403);
  for (const wrong of ["", "x", `${request}x`])
    expect((await browser.open(`/authorize?${new URLSearchParams({ request: wrong })}`)).status).toBe(400);
  const undecided = await browser.submit("/authorize", { request });
  expect(undecided.status).toBe(400);
  expect(await scene.database.query("select 1 from login_codes")).toEqual([]);
});

test("a code is sent to the person's own machine alone, and fields are checked as clients know it", async () => {
  const both = await replicas();
  const authorize = (body: object) => ask(both, "POST", "/auth/cli/authorize", body);
  for (const callbackUrl of ["https://evil.example/", "http://127.0.0.1.evil.example/", "http://10.0.0.1/callback"])
    expect((await authorize({ callbackUrl, state: "st4te-of-it" })).get("error")).toMatchObject({
      code: "validation_error",
      details: { field: "callbackUrl" },
    });
  expect((await authorize({})).get("error")).toMatchObject({
    code: "validation_error",
    details: { field: "callbackUrl", required: ["callbackUrl", "state"] },
  });
  const unknown = await authorize({ callbackUrl: "http://localhost:1/", state: "st4te-of-it", provider: "github" });
  expect(unknown.get("error")).toMatchObject({
    code: "validation_error",
    message: "OAuth provider not configured for CLI: github",
  });
  const long = await authorize({ callbackUrl: `http://localhost:1/${"x".repeat(1_500)}`, state: "st4te-of-it" });
  expect([long.status, long.get("error.code")]).toEqual([400, "validation_error"]);
  expect((await ask(both, "GET", "/auth/providers")).get("error.details")).toEqual({
    field: "clientType",
    required: ["clientType"],
  });
  expect((await ask(both, "GET", "/auth/providers?clientType=x")).get("error.details")).toEqual({
    field: "clientType",
    allowed: ["web", "cli", "device"],
  });
  expect((await ask(both, "POST", "/auth/cli/token", {})).get("error.details.required")).toEqual([
    "code",
    "callbackUrl",
  ]);
  expect((await ask(both, "POST", "/auth/cli/device/token", {})).get("error.details.required")).toEqual(["deviceCode"]);
});

test("a machine without a browser is signed in from another one, as the CLI asks for it (spec/03 3.3)", async () => {
  const both = await replicas();
  // The CLI guesses google first; there is only another provider, and the person chooses.
  const device = await ask(both, "POST", "/auth/cli/device", { provider: "google" });
  expect(device.json).toEqual({
    deviceCode: expect.any(String),
    userCode: expect.stringMatching(/^[B-Z]{4}-[B-Z]{4}$/),
    verificationUrl: `${HUB}/device`,
    verificationUrlComplete: `${HUB}/device?user_code=${device.text("userCode")}`,
    expiresIn: 600,
    interval: 5,
  });
  const deviceCode = device.text("deviceCode");
  noteSecrets(deviceCode);
  const poll = () => ask(both, "POST", "/auth/cli/device/token", { deviceCode, provider: "google" });
  const pending = await poll();
  expect([pending.status, pending.json]).toEqual([202, { status: "authorization_pending" }]);
  const soon = await poll();
  expect([soon.status, soon.json]).toEqual([429, { status: "slow_down", interval: 10 }]);

  const browser = browserAt(both);
  const ways = await browser.open(device.text("verificationUrlComplete"));
  expect(ways.url.pathname).toBe("/login");
  const back = /href="(\/auth\/login\/oidc[^"]*)"/.exec(ways.body)?.[1]?.replaceAll("&amp;", "&") ?? "";
  const asked = await browser.open(back);
  expect(asked.url.pathname).toBe("/device");
  for (const shown of ["ann@example.org", "scion-client/1.0", "127.0.0.1", device.text("userCode"), "second"])
    expect(asked.body).toContain(shown);
  const done = await browser.submit("/device", { user_code: field(asked.body, "user_code"), decision: "allow" });
  expect([done.status, done.body]).toEqual([200, expect.stringContaining("goes on by itself")]);
  const tokens = await poll();
  expect([tokens.status, tokens.get("expiresIn"), tokens.get("user.email")]).toEqual([
    200,
    2_592_000,
    "ann@example.org",
  ]);
  for (const me of await meOf(both, tokens.text("accessToken"))) expect(me.status).toBe(200);
  expect((await browser.open(`/device?user_code=${device.text("userCode")}`)).body).toContain("Nothing waits");
  const actions = await scene.database.query<{ action: string; details: Record<string, unknown> }>(
    "select action, details from audit_log where action like 'device%' or action = 'login' order by id",
  );
  expect(actions.map((a) => a.action)).toEqual(["login", "device_login_allowed", "login"]);
  expect(actions[1]?.details).toEqual({ program: "scion-client/1.0", programAddress: "127.0.0.1" });
});

test("a machine that is denied, or nobody says anything to, is told so in the words of the CLI", async () => {
  const both = await replicas();
  const browser = browserAt(both);
  await browser.open("/auth/login/oidc");
  const [denied, late] = [await ask(both, "POST", "/auth/cli/device"), await ask(both, "POST", "/auth/cli/device", {})];
  const poll = (device: ApiReply) =>
    ask(both, "POST", "/auth/cli/device/token", { deviceCode: device.text("deviceCode") });
  // Typed by hand, in another case.
  const typed = denied.text("userCode").toLowerCase().replace("-", " ");
  const asked = await browser.open(`/device?${new URLSearchParams({ user_code: typed })}`);
  await browser.submit("/device", { user_code: field(asked.body, "user_code"), decision: "deny" });
  const no = await poll(denied);
  expect([no.status, no.get("error.code")]).toEqual([400, "oauth_error"]);
  await scene.database.query("update device_logins set expires_at = now() - interval '1 second'");
  const over = await poll(late);
  expect([over.status, over.json]).toEqual([410, { status: "expired_token" }]);
  const nobody = await ask(both, "POST", "/auth/cli/device/token", { deviceCode: "x" });
  expect([nobody.status, nobody.get("error.code")]).toEqual([400, "oauth_error"]);
  for (let i = 0; i < 11; i += 1) await browser.open("/device?user_code=BBBB-BBBB");
  const tired = await browser.open("/device?user_code=BBBB-BBBB");
  expect([tired.status, tired.body]).toEqual([429, expect.stringContaining("too many wrong codes")]);
});

test("behind IAP, and in development, the CLI proceeds as well", async () => {
  const proxy = await IdentityProvider.start();
  scene.onEnd(() => proxy.stop());
  const behindIap = await replicas({
    ROOTSTOCK_IAP_AUDIENCE: AUDIENCE,
    ROOTSTOCK_IAP_ISSUER: proxy.issuer,
    ROOTSTOCK_IAP_JWKS_URL: proxy.jwksUrl,
  });
  const developing = await replicas({ SCION_DEV_TOKEN: TEST_TOKEN });
  const ann = { sub: "1", email: "ann@example.org", email_verified: true };
  const headers = async () => ({ "x-goog-iap-jwt-assertion": await proxy.sign(ann, AUDIENCE) });
  const inBrowser: readonly (readonly [readonly Replica[], TestBrowser])[] = [
    [behindIap, new TestBrowser({ hub: HUB, replicas: behindIap, headers })],
    [developing, browserAt(developing)],
  ];
  await inBrowser[1]?.[1].submit("/auth/login/development", { token: TEST_TOKEN });
  for (const [both, browser] of inBrowser) {
    const { json } = await ask(both, "GET", "/auth/providers?clientType=cli");
    expect(json).toEqual({ clientType: "cli", providers: ["hub"] });
    const { callbackUrl, got, url } = await beginLogin(both, "hub");
    const asked = await browser.open(url);
    await browser.submit("/authorize", { request: field(asked.body, "request"), decision: "allow" });
    const tokens = await ask(both, "POST", "/auth/cli/token", {
      code: got[0]?.get("code"),
      callbackUrl,
      provider: "hub",
    });
    expect(tokens.status).toBe(200);
    expect((await ask(both, "POST", "/auth/cli/device", { provider: "google" })).status).toBe(200);
  }
  const without = await replicas({});
  expect((await ask(without, "GET", "/auth/providers?clientType=device")).get("providers")).toEqual([]);
  for (const path of ["/auth/cli/authorize", "/auth/cli/device"]) {
    const refused = await ask(without, "POST", path, { callbackUrl: "http://localhost:1/", state: "st4te-of-it" });
    expect([refused.status, refused.get("error.code")]).toEqual([501, "not_implemented"]);
  }
});

test("weak point 3: a provider's token signs in here only if it was made for this hub and for a verified address", async () => {
  const both = await replicas();
  const ann = { sub: "1", email: "ann@example.org", email_verified: true, name: "Ann" };
  const login = (providerToken: string, provider = "oidc") =>
    ask(both, "POST", "/auth/login", { provider, providerToken });
  const good = await login(await oidc.idToken(ann, oidc.clientId));
  expect([good.status, good.get("expiresIn"), good.get("user.email")]).toEqual([200, 900, "ann@example.org"]);
  for (const token of [
    await oidc.idToken(ann, "another application"),
    await oidc.idToken({ ...ann, email_verified: false }, oidc.clientId),
    await oidc.idToken(ann, oidc.clientId, { iss: "https://evil.example" }),
    await oidc.idToken(ann, oidc.clientId, { exp: 1 }),
    await oidc.idToken(ann, oidc.clientId, { azp: "another application" }),
    "an opaque access token",
  ]) {
    const refused = await login(token);
    expect([refused.status, refused.get("error.code")]).toEqual([401, "invalid_provider_token"]);
  }
  expect((await login("x", "facebook")).get("error.code")).toBe("invalid_provider");
  expect((await login("x", "github")).get("error.code")).toBe("invalid_provider");
  expect((await ask(both, "POST", "/auth/login", {})).get("error.details.required")).toEqual([
    "provider",
    "providerToken",
  ]);
  const none = await replicas({});
  expect((await ask(none, "POST", "/auth/login", { provider: "google", providerToken: "x" })).status).toBe(501);
});

test("weak point 3: a code is exchanged with the verifier that belongs to it, and no other (PKCE)", async () => {
  const both = await replicas();
  const redirectUri = "http://127.0.0.1:1/callback";
  const codeVerifier = "v".repeat(43);
  /** As a client of its own, with this hub's client id. */
  const code = async (): Promise<string> => {
    const query = new URLSearchParams({
      client_id: oidc.clientId,
      redirect_uri: redirectUri,
      response_type: "code",
      scope: "openid email profile",
      state: "st4te-of-it",
      code_challenge: await challengeOf(codeVerifier),
      code_challenge_method: "S256",
    });
    const answer = await fetch(`${oidc.url}/authorize?${query}`, { redirect: "manual" });
    return new URL(answer.headers.get("location") ?? "").searchParams.get("code") ?? "";
  };
  const exchange = async (more: Readonly<Record<string, unknown>>) =>
    ask(both, "POST", "/auth/token", {
      provider: "oidc",
      code: await code(),
      redirectUri,
      grantType: "authorization_code",
      codeVerifier,
      ...more,
    });
  const cli = await exchange({});
  expect(cli.json).toMatchObject({ tokenType: "Bearer", expiresIn: 2_592_000, user: { email: "ann@example.org" } });
  expect((await exchange({ clientType: "web", provider: undefined })).get("expiresIn")).toBe(900);
  for (const wrong of [{ codeVerifier: "w".repeat(43) }, { codeVerifier: undefined }, { code: "made-up" }]) {
    const refused = await exchange(wrong);
    expect([refused.status, refused.get("error.code")]).toEqual([400, "oauth_error"]);
  }
  // Which provider a code comes from is compared where a client tells it, and asked of none that does not know of it.
  expect((await exchange({ iss: oidc.url })).status).toBe(200);
  for (const iss of ["https://evil.example", `${oidc.url}/`])
    expect((await exchange({ iss })).get("error.code")).toBe("oauth_error");
  expect((await exchange({ grantType: "password" })).get("error.code")).toBe("invalid_request");
  expect((await exchange({ code: "" })).get("error.details.required")).toEqual(["code", "redirectUri", "grantType"]);
});

const challengeOf = async (verifier: string): Promise<string> =>
  Buffer.from(await crypto.subtle.digest("SHA-256", Buffer.from(verifier))).toString("base64url");
