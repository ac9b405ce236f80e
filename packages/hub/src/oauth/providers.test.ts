import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { systemClock } from "@rootstock/service";
import { SimulatedGithub, SimulatedOidc, testLog } from "@rootstock/testkit";
import { loadHubConfig } from "../config.ts";
import { ProviderError, Providers, type SignInProvider } from "./index.ts";

let oidc: SimulatedOidc;
let github: SimulatedGithub;
beforeEach(async () => {
  [oidc, github] = [await SimulatedOidc.start(), await SimulatedGithub.start()];
});
afterEach(async () => {
  await Promise.all([oidc.stop(), github.stop()]);
});

let skippedMs = 0;
const clock = { ...systemClock, elapsed: () => systemClock.elapsed() + skippedMs };
const NEEDED = { DATABASE_URL: "postgres://h/d", ROOTSTOCK_SECRET: "s".repeat(32) };
const ANN = { sub: "1", email: "Ann@Example.org", email_verified: true, name: "Ann", hd: "Example.org" };
const config = (env: Readonly<Record<string, string>>) => loadHubConfig({ ...NEEDED, ...env }).signIn.providers;
const provider = (env: Readonly<Record<string, string>>): SignInProvider => {
  const [found] = new Providers(config(env), { clock, log: testLog(), fetch }).all;
  if (!found) throw new Error("no provider");
  return found;
};
const failure = async (attempt: Promise<unknown>): Promise<string> => {
  try {
    return `in: ${JSON.stringify(await attempt)}`;
  } catch (err) {
    if (err instanceof ProviderError) return err.failure;
    throw err;
  }
};

test("weak point 3: a token that a client brings counts if the provider made it for this hub and the address is verified", async () => {
  const google = provider(oidc.environment("google"));
  expect(await google.identityOfToken(await oidc.idToken(ANN, oidc.clientId))).toEqual({
    issuer: oidc.url,
    subject: "1",
    email: "ann@example.org",
    displayName: "Ann",
    avatarUrl: undefined,
    hostedDomain: "example.org",
  });
  for (const token of [
    await oidc.idToken(ANN, "another-application"),
    await oidc.idToken(ANN, oidc.clientId, { azp: "another-application" }),
    await oidc.idToken(ANN, oidc.clientId, { iss: "https://evil.example" }),
    await oidc.idToken(ANN, oidc.clientId, { exp: 1 }),
    `${(await oidc.idToken(ANN, oidc.clientId)).slice(0, -8)}AAAAAAAA`,
    "an-opaque-access-token",
  ])
    expect(await failure(google.identityOfToken(token))).toBe("exchange_failed");
  const unverified = await oidc.idToken({ ...ANN, email_verified: false }, oidc.clientId);
  expect(await failure(google.identityOfToken(unverified))).toBe("email_unverified");
  const { email_verified: _, ...unsaid } = ANN;
  expect(await failure(google.identityOfToken(await oidc.idToken(unsaid, oidc.clientId)))).toBe("email_unverified");
});

test("an address of which a provider says nothing counts only where the configuration says so", async () => {
  const { email_verified: _, ...unsaid } = ANN;
  const token = await oidc.idToken(unsaid, oidc.clientId);
  expect(await failure(provider(oidc.environment()).identityOfToken(token))).toBe("email_unverified");
  const trusting = provider({ ...oidc.environment(), ROOTSTOCK_OIDC_TRUST_EMAILS: "1" });
  expect(await trusting.identityOfToken(token)).toMatchObject({ email: "ann@example.org" });
  const denied = await oidc.idToken({ ...ANN, email_verified: false }, oidc.clientId);
  expect(await failure(trusting.identityOfToken(denied))).toBe("email_unverified");
});

test("weak point 3: a GitHub token of another application is nobody's here", async () => {
  const hub = provider(github.environment());
  const own = github.tokenFor(github.clientId);
  expect(await hub.identityOfToken(own)).toMatchObject({ issuer: github.url, subject: "7", email: "ann@example.org" });
  expect(await failure(hub.identityOfToken(github.tokenFor("another-application")))).toBe("exchange_failed");
  expect(await failure(hub.identityOfToken("made-up"))).toBe("exchange_failed");
});

test("a provider that is away says so, and new keys are fetched when a token names one", async () => {
  const hub = provider(oidc.environment());
  expect(await hub.identityOfToken(await oidc.idToken(ANN, oidc.clientId))).toMatchObject({ subject: "1" });
  await oidc.rotate();
  skippedMs += 60_000;
  expect(await failure(hub.identityOfToken(await oidc.idToken(ANN, oidc.clientId)))).toContain("in:");
  const other = provider(oidc.environment());
  await oidc.stop();
  expect(await failure(other.identityOfToken("a.b.c"))).toBe("provider_unavailable");
  const request = { redirectUri: "http://hub.test/auth/callback/oidc", state: "st4te-of-it" };
  expect(await failure(other.authorizeUrl(request))).toBe("provider_unavailable");
});

test("who answers is compared where it is told, has to be told where it is promised, and by clients need not be", async () => {
  const redirectUri = "http://hub.test/auth/callback/x";
  const answers = async (env: Readonly<Record<string, string>>, state: string) => {
    const asked = provider(env);
    const url = await asked.authorizeUrl({ redirectUri, state });
    const answer = await fetch(url, { redirect: "manual" });
    const params = new URL(answer.headers.get("location") ?? "").searchParams;
    return { asked, params };
  };
  /** What comes of an answer that names `iss`; of one that names nothing when undefined. */
  const came = async (env: Readonly<Record<string, string>>, iss: string | undefined, relayed = false) => {
    const { asked, params } = await answers(env, "st4te-of-it");
    params.delete("iss");
    if (iss !== undefined) params.set("iss", iss);
    return failure(asked.identityOf({ redirectUri, state: "st4te-of-it", params, relayed }));
  };
  const [evil, of] = ["https://evil.example", { oidc: oidc.environment(), github: github.environment() }];
  for (const [env, own] of [
    [of.oidc, oidc.url],
    [of.github, `${github.url}/login/oauth`],
  ] as const) {
    expect(await came(env, own)).toContain("in:");
    expect(await came(env, undefined)).toContain("in:");
    for (const wrong of [evil, `${own}/`])
      for (const relayed of [false, true]) expect(await came(env, wrong, relayed)).toBe("exchange_failed");
  }
  oidc.iss = oidc.url;
  expect(await came(of.oidc, oidc.url)).toContain("in:");
  expect(await came(of.oidc, undefined)).toBe("exchange_failed");
  expect(await came(of.oidc, undefined, true)).toContain("in:");
});

test("a provider that takes too long is one that is away", async () => {
  const rules = config(oidc.environment());
  const slow = new Providers(rules, {
    clock,
    log: testLog(),
    fetch: async (_url, init) => {
      expect(init?.signal).toBeDefined();
      throw new DOMException("too slow", "TimeoutError");
    },
  }).find("oidc");
  if (!slow) throw new Error("no provider");
  const attempt = slow.authorizeUrl({ redirectUri: "http://hub.test/auth/callback/oidc", state: "st4te-of-it" });
  expect(await failure(attempt)).toBe("provider_unavailable");
});

test("Google is asked for accounts of the only hosted domain, GitHub for addresses, each with PKCE", async () => {
  const request = {
    redirectUri: "https://hub.example/auth/callback/x",
    state: "state",
    nonce: "nonce",
    codeVerifier: "v".repeat(43),
  };
  const google = await provider({
    ...oidc.environment("google"),
    ROOTSTOCK_HOSTED_DOMAINS: "example.org",
  }).authorizeUrl(request);
  expect(Object.fromEntries(google.searchParams)).toEqual({
    client_id: oidc.clientId,
    redirect_uri: request.redirectUri,
    response_type: "code",
    scope: "openid email profile",
    state: "state",
    nonce: "nonce",
    code_challenge: expect.stringMatching(/^[\w-]{43}$/),
    code_challenge_method: "S256",
    prompt: "select_account",
    hd: "example.org",
  });
  const hub = await provider(github.environment()).authorizeUrl(request);
  expect(hub.pathname).toBe("/login/oauth/authorize");
  expect(Object.fromEntries(hub.searchParams)).toMatchObject({
    scope: "read:user user:email",
    code_challenge_method: "S256",
  });
  expect(hub.searchParams.has("nonce")).toBe(false);
});

test("several providers at once, in one order; half a configuration and addresses without TLS are refused at the start", () => {
  const all = { ...oidc.environment(), ...github.environment(), ...oidc.environment("google") };
  expect(config(all).map(({ name }) => name)).toEqual(["google", "github", "oidc"]);
  expect(config({})).toEqual([]);
  const google = { ROOTSTOCK_GOOGLE_CLIENT_ID: "id", ROOTSTOCK_GOOGLE_CLIENT_SECRET: "secret" };
  expect(config(google)).toMatchObject([{ name: "google", issuer: "https://accounts.google.com", plainHttp: false }]);
  // Compared to the byte with what the provider says of itself.
  const slashed = { ...oidc.environment(), ROOTSTOCK_OIDC_ISSUER: "https://issuer.example/o/hub/" };
  expect(config(slashed)).toMatchObject([{ name: "oidc", issuer: "https://issuer.example/o/hub/" }]);
  for (const [env, problem] of [
    [{ ROOTSTOCK_GOOGLE_CLIENT_ID: "id" }, "ROOTSTOCK_GOOGLE_CLIENT_SECRET: either needs the other"],
    [{ ROOTSTOCK_GITHUB_CLIENT_SECRET: "secret" }, "ROOTSTOCK_GITHUB_CLIENT_ID"],
    [{ ROOTSTOCK_OIDC_ISSUER: "https://issuer.example" }, "each needs the others"],
    [{ ...google, ROOTSTOCK_GOOGLE_ISSUER: "http://accounts.example" }, "ROOTSTOCK_GOOGLE_ISSUER: want https://"],
    [{ ...oidc.environment(), ROOTSTOCK_OIDC_SCOPES: "email" }, "openid must be among them"],
  ] as const)
    expect(() => config(env)).toThrow(problem);
});
