import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "@jest/globals";
import { HubError } from "@rootstock/protocol";
import { type Clock, systemClock, systemRandom } from "@rootstock/service";
import { userById } from "@rootstock/store";
import { createTestStore, IdentityProvider, type TestStore, testLog } from "@rootstock/testkit";
import { SignJWT } from "jose";
import { type AdmissionRules, GOOGLE_ISSUER, People, UserStandings } from "../people/index.ts";
import { EVERYBODY } from "./authenticator.testing.ts";
import { AddressList, AssertionVerifier, type Credentials, IAP, ProxyLogin } from "./index.ts";

const AUDIENCE = "/projects/1/global/backendServices/2";
const ANN = { sub: "accounts.google.com:1", email: "accounts.google.com:Ann@example.org", name: "Ann" };
let store: TestStore;
let proxy: IdentityProvider;
/** Added to the clock, in milliseconds. */
let later = 0;
const clock: Clock = {
  ...systemClock,
  now: () => systemClock.now() + later,
  elapsed: () => systemClock.elapsed() + later,
};
const base = { clock, random: systemRandom, log: testLog() };

beforeAll(async () => {
  store = await createTestStore();
});
afterAll(() => store.drop());
beforeEach(async () => {
  later = 0;
  proxy = await IdentityProvider.start();
  // Of each one's own issuer.
  await store.query("delete from users");
});
afterEach(() => proxy.stop());

const login = (rules: Partial<AdmissionRules> = {}) =>
  new ProxyLogin({
    clock,
    standings: new UserStandings(clock, store.db),
    people: new People(base, {
      db: store.db,
      rules: { ...EVERYBODY, ...rules },
      changed: () => {},
      denied: async () => {},
    }),
    verifiers: [
      new AssertionVerifier({
        rules: { ...IAP, issuer: proxy.issuer, audience: AUDIENCE, jwksUrl: proxy.jwksUrl },
        clock,
        log: base.log,
        fetch,
      }),
    ],
    plain: { header: "X-Forwarded-Email", from: new AddressList(["10.1.0.0/16", "::1"]) },
  });

const request = (headers: Readonly<Record<string, string>>, peer = "192.0.2.1"): Credentials => ({
  method: "GET",
  path: "/",
  query: "",
  headers: new Headers(headers),
  peer,
  body: async () => new Uint8Array(0),
});
const shown = (token: string) => request({ [IAP.header]: token });
const refusal = async (attempt: Promise<unknown>): Promise<string> => {
  try {
    return `let in: ${await attempt}`;
  } catch (err) {
    if (err instanceof HubError) return `${err.status} ${err.message}`;
    throw err;
  }
};

test("weak point 7: whoever the proxy vouches for is who they are, with no session, and the first call makes the account", async () => {
  const proxyLogin = login();
  const id = await proxyLogin.userOf(shown(await proxy.sign(ANN, AUDIENCE)));
  expect(await userById(store.db, id ?? "")).toMatchObject({ email: "ann@example.org", display_name: "Ann" });
  expect(await proxyLogin.userOf(shown(await proxy.sign(ANN, AUDIENCE)))).toBe(id);
  expect(await proxyLogin.userOf(request({}))).toBeUndefined();
});

test.each<[string, Readonly<Record<string, unknown>>, string]>([
  ["another audience", { aud: `${AUDIENCE}0` }, "claim aud refused"],
  ["another issuer", { iss: "https://cloud.google.com/iap2" }, "claim iss refused"],
  ["an old one", { exp: Math.floor(systemClock.now() / 1000) - 31 }, "token expired"],
  ["one without an end", { exp: undefined }, "claim exp refused"],
  ["one of the future", { iat: Math.floor(systemClock.now() / 1000) + 60 }, "issued in the future"],
  ["nobody", { sub: undefined }, "claim sub refused"],
  ["no address", { email: undefined }, "claim email refused"],
  ["an address that is not verified", { email_verified: false }, "the address is not verified"],
])("an assertion of %s proves nothing", async (_, claims, reason) => {
  expect(await refusal(login().userOf(shown(await proxy.sign(ANN, AUDIENCE, claims))))).toBe(
    `401 invalid proxy assertion: ${reason}`,
  );
});

test("clocks may differ by half a minute", async () => {
  const now = Math.floor(systemClock.now() / 1000);
  const token = await proxy.sign(ANN, AUDIENCE, { exp: now - 20, iat: now + 20 });
  expect(await login().userOf(shown(token))).toBeDefined();
});

test("what is signed with a published key as if it were a shared one, by an unknown key, or not at all, is refused", async () => {
  const published = await (await fetch(proxy.jwksUrl)).text();
  const forged = await new SignJWT({ ...ANN, aud: AUDIENCE, iss: proxy.issuer })
    .setProtectedHeader({ alg: "HS256", kid: JSON.parse(published).keys[0].kid })
    .setExpirationTime("5m")
    .sign(Buffer.from(published));
  const proxyLogin = login();
  expect(await refusal(proxyLogin.userOf(shown(forged)))).toBe("401 invalid proxy assertion: algorithm not allowed");
  const stranger = await IdentityProvider.start();
  const strange = await stranger.sign(ANN, AUDIENCE, { iss: proxy.issuer });
  await stranger.stop();
  expect(await refusal(proxyLogin.userOf(shown(strange)))).toBe("401 invalid proxy assertion: unknown key");
  const [head, body] = (await proxy.sign(ANN, AUDIENCE)).split(".");
  expect(await refusal(proxyLogin.userOf(shown(`${head}.${body}.`)))).toContain("401 invalid proxy assertion");
  expect(await refusal(proxyLogin.userOf(shown("x")))).toBe("401 invalid proxy assertion: malformed token");
});

test("keys are fetched once, a rotation is noticed at once, and unknown keys are not asked for all the time", async () => {
  const proxyLogin = login();
  await Promise.all(Array.from({ length: 10 }, async () => proxyLogin.userOf(shown(await proxy.sign(ANN, AUDIENCE)))));
  expect(proxy.keyFetches).toBe(1);
  later += 6_000;
  await proxy.rotate(true);
  expect(await proxyLogin.userOf(shown(await proxy.sign(ANN, AUDIENCE)))).toBeDefined();
  expect(proxy.keyFetches).toBe(2);
  await proxy.rotate(true);
  const unknown = shown(await proxy.sign(ANN, AUDIENCE));
  for (let i = 0; i < 5; i += 1)
    expect(await refusal(proxyLogin.userOf(unknown))).toBe("401 invalid proxy assertion: unknown key");
  expect(proxy.keyFetches).toBe(2);
});

test("the last good keys serve while the signer is down; with none so far the answer is 503", async () => {
  const proxyLogin = login();
  await proxyLogin.userOf(shown(await proxy.sign(ANN, AUDIENCE)));
  proxy.down = true;
  later = 3 * 3_600_000;
  const now = Math.floor(clock.now() / 1000);
  const token = await proxy.sign(ANN, AUDIENCE, { iat: now, exp: now + 600 });
  expect(await proxyLogin.userOf(shown(token))).toBeDefined();
  expect(await refusal(login().userOf(shown(token)))).toContain("503");
});

test("the hosted domain rule and the rules of access hold for proxies, too", async () => {
  const strict = login({ hostedDomains: ["example.org"] });
  expect(await refusal(strict.userOf(shown(await proxy.sign(ANN, AUDIENCE))))).toContain(
    "hosted_domain_not_authorized",
  );
  expect(await strict.userOf(shown(await proxy.sign(ANN, AUDIENCE, { hd: "example.org" })))).toBeDefined();
  const listed = login({ mode: "allow_list" });
  const token = await proxy.sign({ ...ANN, sub: "7", email: "zoe@example.org" }, AUDIENCE);
  expect(await refusal(listed.userOf(shown(token)))).toContain("not_on_allow_list");
});

test("a call that outlasts its assertion stays whose it was", async () => {
  const proxyLogin = login();
  const call = shown(await proxy.sign(ANN, AUDIENCE));
  const id = await proxyLogin.userOf(call);
  later = 3_600_000;
  expect(await proxyLogin.userOf(call)).toBe(id);
});

test("people of Identity-Aware Proxy are Google's accounts; what another issuer writes so is its own", async () => {
  const options = { clock, log: base.log, fetch };
  const rules = { ...IAP, audience: AUDIENCE, jwksUrl: proxy.jwksUrl };
  const iap = new AssertionVerifier({ rules, ...options });
  const alike = new AssertionVerifier({ rules: { ...rules, issuer: proxy.issuer }, ...options });
  const other = new AssertionVerifier({
    rules: { ...rules, issuer: proxy.issuer, namesGoogleAccounts: false },
    ...options,
  });
  const verified = async (verifier: AssertionVerifier, sub: string, email = "ann@example.org") => {
    const iss = verifier === iap ? IAP.issuer : proxy.issuer;
    const { issuer, subject } = await verifier.verify(await proxy.sign({ sub, email }, AUDIENCE, { iss }));
    return [issuer, subject];
  };
  const external = "securetoken.google.com/p:1";
  expect(await verified(iap, ANN.sub, ANN.email)).toEqual([GOOGLE_ISSUER, "1"]);
  expect(await verified(iap, external)).toEqual([IAP.issuer, external]);
  // Whoever holds its keys decides who comes: never as somebody whom Google knows, and as who they always were.
  for (const sub of [ANN.sub, "1"]) expect(await verified(alike, sub, ANN.email)).toEqual([proxy.issuer, "1"]);
  expect(await verified(other, ANN.sub)).toEqual([proxy.issuer, ANN.sub]);
});

test("weak point 7: a plain header is believed from configured addresses alone", async () => {
  const proxyLogin = login();
  const headers = { "x-forwarded-email": "Pat@example.org" };
  const id = await proxyLogin.userOf(request(headers, "::ffff:10.1.2.3"));
  expect(await userById(store.db, id ?? "")).toMatchObject({ email: "pat@example.org" });
  expect(await proxyLogin.userOf(request(headers, "::1"))).toBe(id);
  for (const peer of ["10.2.0.1", "::2", "127.0.0.1", ""])
    expect(await proxyLogin.userOf(request(headers, peer))).toBeUndefined();
  expect(await refusal(proxyLogin.userOf(request({ "x-forwarded-email": "a@b, c@d" }, "::1")))).toContain("401");
});

test.each(["10.0.0.0/33", "host", "10.0.0.1/a", "::1/129", "1.2.3.4/8/9"])("%s is no address", (entry) => {
  expect(() => new AddressList([entry])).toThrow(RangeError);
});
