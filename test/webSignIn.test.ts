import { afterEach, beforeEach, expect, test } from "@jest/globals";
import {
  api,
  eventually,
  type Replica,
  Scene,
  SimulatedGithub,
  SimulatedOidc,
  TEST_SECRET,
  TEST_TOKEN,
  TestBrowser,
  type Visit,
} from "@rootstock/testkit";

/** Signing in with a browser, each request on another replica. */

const HUB = "http://hub.test";
let scene: Scene;
let oidc: SimulatedOidc;

beforeEach(async () => {
  scene = await Scene.create();
  oidc = await SimulatedOidc.start();
  scene.onEnd(() => oidc.stop());
});
afterEach(() => scene.end());

const replicas = async (env: Readonly<Record<string, string>> = {}): Promise<readonly [Replica, Replica]> => {
  const all = { ...oidc.environment(), SCION_DEV_TOKEN: "", ...env };
  return [await scene.replica(all), await scene.replica(all)];
};
const browserAt = (both: readonly Replica[], hub = HUB) => new TestBrowser({ hub, replicas: both });
const users = (email: string) => scene.database.query("select * from users where email = $1", [email]);
const me = async (browser: TestBrowser): Promise<unknown> => {
  const { status, body } = await browser.ask("/auth/me");
  return status === 200 ? JSON.parse(body) : status;
};
/** Where a visit ended, as path and query. */
const place = ({ url }: Visit): string => url.pathname + url.search;
const isCallback = (url: URL): boolean => url.pathname.startsWith("/auth/callback/");

test("a browser signs in, uses the hub and signs out, with each request on another replica", async () => {
  const browser = browserAt(await replicas());
  const asked = await browser.open("/");
  expect([asked.status, place(asked)]).toEqual([200, "/login"]);
  expect(asked.body).toContain('href="/auth/login/oidc"');
  const home = await browser.open("/auth/login/oidc");
  expect([home.status, place(home)]).toEqual([200, "/"]);
  expect(home.body).toContain("ann@example.org");
  expect(browser.visited).toEqual([
    `GET ${HUB}/`,
    `GET ${HUB}/login`,
    `GET ${HUB}/auth/login/oidc`,
    `GET ${oidc.url}/authorize`,
    `GET ${HUB}/auth/callback/oidc`,
    `GET ${HUB}/`,
  ]);
  const [user] = await users("ann@example.org");
  const shown = { id: user?.id, email: "ann@example.org", displayName: "Ann", role: "member" };
  for (let i = 0; i < 4; i += 1) expect(await me(browser)).toEqual(shown);
  expect(await scene.database.query("select issuer, subject from user_identities")).toEqual([
    { issuer: oidc.url, subject: "1" },
  ]);
  const out = await browser.submit("/auth/logout", {});
  expect([place(out), out.body]).toEqual(["/login?signed_out=1", expect.stringContaining("You are signed out")]);
  expect([await me(browser), await me(browser)]).toEqual([401, 401]);
});

test("signing out everywhere ends the sessions of other browsers; another site's page signs nobody out", async () => {
  const both = await replicas();
  const [one, two] = [browserAt(both), browserAt(both)];
  for (const browser of [one, two]) await browser.open("/auth/login/oidc");
  const cookie = one.cookieHeader();
  for (const headers of [{}, { origin: "https://evil.example" }, { "sec-fetch-site": "cross-site" }])
    expect((await one.ask("/auth/logout", "POST", headers)).status).toBe(403);
  const asked = await one.ask("/auth/logout", "GET", { accept: "text/html", "sec-fetch-site": "cross-site" });
  expect([asked.status, asked.body]).toEqual([200, expect.stringContaining("Another site has sent you here")]);
  for (const method of ["GET", "HEAD"])
    expect((await one.ask("/auth/logout", method, { accept: "*/*", "sec-fetch-site": "same-site" })).status).toBe(403);
  expect(await me(one)).toMatchObject({ email: "ann@example.org" });
  await two.submit("/auth/logout", { everywhere: "1" });
  await eventually(async () => (await me(one)) === 401, 2_000);
  const kept = { headers: { authorization: "", cookie } };
  await eventually(async () => (await api(both[0], "GET", "/api/v1/auth/me", undefined, kept)).status === 401, 2_000);
});

test("over TLS the cookies are the host's own, and a sign-in goes on at replicas that have a new secret first", async () => {
  const present = "the present secret of at least 32 bytes";
  const hub = "https://hub.example";
  const env = { ...oidc.environment(), ROOTSTOCK_PUBLIC_URL: hub };
  const former = await scene.replica({ ...env, ROOTSTOCK_SECRET: `${TEST_SECRET},${present}` });
  const both = await scene.replica({ ...env, ROOTSTOCK_SECRET: `${present},${TEST_SECRET}` });
  const browser = browserAt([former, both], hub);
  expect(place(await browser.open("/auth/login/oidc?returnTo=/auth/../%3Fx=1"))).toBe("/?x=1");
  expect(browser.visited).toContain(`GET ${hub}/auth/callback/oidc`);
  expect(browser.cookieHeader()).toMatch(/^__Host-rootstock_session=[\w.-]+$/);
  for (let i = 0; i < 2; i += 1) expect(await me(browser)).toMatchObject({ email: "ann@example.org" });
});

test("state, nonce and PKCE: an answer counts for the browser that began, once, and with its own code", async () => {
  const both = await replicas();
  const stopped = async (browser = browserAt(both)) => {
    const { url } = await browser.open("/auth/login/oidc?returnTo=/here", isCallback);
    return { browser, url };
  };
  const endOf = async (browser: TestBrowser, url: URL) => {
    const end = await browser.open(url.href);
    expect(await me(browser)).toBe(401);
    return place(end);
  };
  const changed = await stopped();
  changed.url.searchParams.set("state", "made-up");
  expect(await endOf(changed.browser, changed.url)).toBe("/login?error=state_mismatch&returnTo=%2Fhere");

  const fresh = await stopped();
  expect(await endOf(browserAt(both), fresh.url)).toBe("/login?error=session_error");

  // Somebody else's code under one's own state: the provider has it for another verifier.
  const [victim, attacker] = [await stopped(), await stopped()];
  victim.url.searchParams.set("code", attacker.url.searchParams.get("code") ?? "");
  expect(await endOf(victim.browser, victim.url)).toBe("/login?error=exchange_failed&returnTo=%2Fhere");

  const twice = await stopped();
  expect((await twice.browser.ask(twice.url.pathname + twice.url.search)).headers.get("location")).toBe("/here");
  const again = await twice.browser.ask(twice.url.pathname + twice.url.search);
  expect(again.headers.get("location")).toBe("/login?error=session_error");

  oidc.claims = { nonce: "of another sign-in" };
  const stolen = await stopped();
  expect(await endOf(stolen.browser, stolen.url)).toBe("/login?error=exchange_failed&returnTo=%2Fhere");
  oidc.claims = {};
  const none = await stopped();
  none.url.searchParams.delete("code");
  expect(await endOf(none.browser, none.url)).toBe("/login?error=no_code&returnTo=%2Fhere");
  const planted = await stopped();
  planted.browser.cookies.get("hub.test")?.set("rootstock_sign_in", "made-up");
  expect(await endOf(planted.browser, planted.url)).toBe("/login?error=session_error");
});

test("weak point 3: only a verified address, in a token that the provider has signed for this hub, lets somebody in", async () => {
  const browser = browserAt(await replicas());
  const end = async () => new URLSearchParams(place(await browser.open("/auth/login/oidc")).split("?")[1]).get("error");
  for (const [claims, error] of [
    [{ email_verified: false }, "email_unverified"],
    [{ email_verified: undefined }, "email_unverified"],
    [{ aud: "another-application" }, "exchange_failed"],
    [{ aud: ["rootstock-client", "another-application"], azp: "another-application" }, "exchange_failed"],
    [{ iss: "https://evil.example" }, "exchange_failed"],
    [{ exp: 1 }, "exchange_failed"],
    [{ sub: "" }, "exchange_failed"],
    [{ email: "no address" }, "exchange_failed"],
  ] as const) {
    oidc.claims = claims;
    expect([claims, await end()]).toEqual([claims, error]);
  }
  expect(await me(browser)).toBe(401);
  expect(await scene.database.query("select 1 from user_identities")).toEqual([]);
  oidc.claims = {};
  oidc.addressAside = true;
  expect(await end()).toBeNull();
  oidc.refuses = true;
  expect(await end()).toBe("access_denied");
});

test("weak point 3: GitHub's primary address counts if it is verified, and an account is its number there", async () => {
  const github = await SimulatedGithub.start();
  scene.onEnd(() => github.stop());
  const both = await replicas(github.environment());
  const browser = browserAt(both);
  const address = { email: "ann@example.org", primary: true, verified: false };
  github.account = { ...github.account, emails: [address, { email: "x@example.org", primary: false, verified: true }] };
  expect(place(await browser.open("/auth/login/github"))).toBe("/login?error=email_unverified");
  github.account = { ...github.account, emails: [{ ...address, verified: true }] };
  expect(place(await browser.open("/auth/login/github"))).toBe("/");
  const [ann] = await users("ann@example.org");
  expect(await scene.database.query("select issuer, subject from user_identities")).toEqual([
    { issuer: github.url, subject: "7" },
  ]);
  // The same name and address for another number: somebody else.
  github.account = { ...github.account, id: 8 };
  const other = browserAt(both);
  expect(place(await other.open("/auth/login/github"))).toBe("/login?error=identity_not_linked");
  github.account = { ...github.account, id: 7, emails: [{ ...address, email: "new@example.org", verified: true }] };
  await browserAt(both).open("/auth/login/github");
  expect(await scene.database.query("select id, email from users")).toEqual([
    { id: ann?.id, email: "new@example.org" },
  ]);
});

test("accounts of another organisation, or of none, do not come in where one is asked for", async () => {
  const browser = browserAt(await replicas({ ROOTSTOCK_HOSTED_DOMAINS: "corp.example" }));
  for (const hd of [undefined, "other.example"]) {
    oidc.claims = { hd };
    expect(place(await browser.open("/auth/login/oidc"))).toBe("/login?error=unauthorized_domain");
  }
  expect(await users("ann@example.org")).toEqual([]);
  oidc.claims = { hd: "Corp.Example" };
  expect(place(await browser.open("/auth/login/oidc"))).toBe("/");
});

test("weak point 4: the browser's way in refuses who is suspended, and promotes who is an admin by configuration", async () => {
  const both = await replicas({ ROOTSTOCK_ADMIN_EMAILS: "ann@example.org" });
  const browser = browserAt(both);
  await browser.open("/auth/login/oidc");
  expect(await me(browser)).toMatchObject({ role: "admin" });
  await scene.database.query("update users set status = 'suspended'");
  for (let i = 0; i < 2; i += 1) await eventually(async () => (await me(browser)) === 401, 2_000);
  const refused = await browser.open("/auth/login/oidc");
  expect(place(refused)).toBe("/login?error=user_suspended");
  expect(refused.body).toContain("Your account is suspended.");
  expect(await me(browser)).toBe(401);
});

test("weak point 5: an invite travels through the sign-in, and is used up by it", async () => {
  const both = await replicas({ ROOTSTOCK_ACCESS: "invite_only", SCION_DEV_TOKEN: TEST_TOKEN });
  const made = await api(both[0], "POST", "/api/v1/admin/invites", { expiresIn: "1h", maxUses: 1 });
  const code = made.text("code");
  const browser = browserAt(both);
  expect(place(await browser.open("/auth/login/oidc"))).toBe("/login?error=unauthorized_domain");
  expect(await users("ann@example.org")).toEqual([]);
  const invited = await browser.open(`/invite?code=${code}`);
  expect(invited.body).toContain(`href="/auth/login/oidc?invite=${code}"`);
  expect(place(await browser.open(`/auth/login/oidc?invite=${code}`))).toBe("/");
  expect(await me(browser)).toMatchObject({ email: "ann@example.org" });
  oidc.account = { sub: "2", email: "bob@example.org", email_verified: true };
  const late = browserAt(both);
  expect(place(await late.open(`/auth/login/oidc?invite=${code}`))).toBe(`/invite?code=${code}&error=invite_invalid`);
  expect(await scene.database.query("select use_count from invites")).toEqual([{ use_count: 1 }]);
  expect((await late.open("/invite?code=nonsense")).body).toContain("This invite does not let you in");
});

test("an invite is accepted by who is signed in already, from our own page alone", async () => {
  const both = await replicas({ SCION_DEV_TOKEN: TEST_TOKEN });
  const code = (await api(both[0], "POST", "/api/v1/admin/invites", { expiresIn: "1h", maxUses: 0 })).text("code");
  const browser = browserAt(both);
  await browser.open("/auth/login/oidc");
  expect((await browser.open(`/invite?code=${code}`)).body).toContain("Accept the invite");
  const form = `code=${code}`;
  const type = { "content-type": "application/x-www-form-urlencoded" };
  expect((await browser.ask("/invite", "POST", { ...type, origin: "https://evil.example" }, form)).status).toBe(403);
  expect(await scene.database.query("select 1 from allow_list")).toEqual([]);
  expect(place(await browser.submit("/invite", { code }))).toBe("/?joined=1");
  expect(await scene.database.query("select email from allow_list")).toEqual([{ email: "ann@example.org" }]);
  expect(place(await browser.submit("/invite", { code: `scion_inv_${"A".repeat(32)}` }))).toContain(
    "error=invite_invalid",
  );
});

test("weak point 6: after the sign-in the browser is where it wanted to be, and never at another site", async () => {
  const browser = browserAt(await replicas());
  const login = await browser.open("/auth/login?returnTo=/invites%3Fx%3D1");
  expect(place(login)).toBe("/login?returnTo=%2Finvites%3Fx%3D1");
  expect(login.body).toContain('href="/auth/login/oidc?returnTo=%2Finvites%3Fx%3D1"');
  const to = async (returnTo: string) => {
    const { url } = await browser.open(`/auth/login/oidc?${new URLSearchParams({ returnTo })}`, isCallback);
    return (await browser.ask(url.pathname + url.search)).headers.get("location");
  };
  expect(await to("/agents/a1?tab=logs")).toBe("/agents/a1?tab=logs");
  for (const elsewhere of ["https://evil.example", "//evil.example", "/\\evil.example", "/%09/evil.example/..//x"])
    expect([elsewhere, await to(elsewhere)]).toEqual([elsewhere, expect.stringMatching(/^\/(?![/\\])/)]);
  const signedIn = await browser.open("/login?returnTo=https%3A%2F%2Fevil.example");
  expect(signedIn.body).toContain('href="/">Continue');
});

test("whoever opens a page without being signed in is sent to sign in, and back; a session that is over is forgotten", async () => {
  const browser = browserAt(await replicas());
  const asked = await browser.open("/agents/a1?tab=logs");
  expect(place(asked)).toBe("/login?returnTo=%2Fagents%2Fa1%3Ftab%3Dlogs");
  const back = await browser.open("/auth/login/oidc?returnTo=%2Fagents%2Fa1%3Ftab%3Dlogs");
  expect([place(back), back.status]).toEqual(["/agents/a1?tab=logs", 404]);
  expect(back.body).toContain("no such path");
  expect((await browser.ask("/agents/a1")).body).toContain('"not_found"');
  await scene.database.query("update sign_ins set ended_at = now()");
  await eventually(async () => (await me(browser)) === 401, 2_000);
  expect(browser.cookieHeader()).toBe("");
});

test("weak point 8: on a hub for development nobody is somebody without the token, and the page asks for it", async () => {
  const both = await replicas({ SCION_DEV_TOKEN: TEST_TOKEN });
  const browser = browserAt(both);
  expect(await me(browser)).toBe(401);
  expect((await browser.ask("/api/v1/agents")).status).toBe(401);
  expect((await browser.open("/")).body).toContain("Development token");
  const wrong = await browser.submit("/auth/login/development", { token: `scion_dev_${"00".repeat(32)}` });
  expect([place(wrong), await me(browser)]).toEqual(["/login?error=development_token", 401]);
  const denied = await api(both[0], "GET", "/api/v1/admin/audit?action=login_denied");
  expect(denied.list("items")).toMatchObject([{ result: "failure", reason: "invalid development token" }]);
  const form = `token=${TEST_TOKEN}`;
  const type = { "content-type": "application/x-www-form-urlencoded" };
  for (const headers of [{}, { origin: "https://evil.example" }])
    expect((await browser.ask("/auth/login/development", "POST", { ...type, ...headers }, form)).status).toBe(403);
  expect(place(await browser.submit("/auth/login/development", { token: TEST_TOKEN, returnTo: "//evil" }))).toBe("/");
  expect(await me(browser)).toMatchObject({ email: "dev@localhost", role: "admin" });
  const off = browserAt(await replicas());
  expect((await off.open("/")).body).not.toContain("Development token");
  expect((await off.submit("/auth/login/development", { token: TEST_TOKEN })).status).toBe(501);
});

test("weak point 9: ten browsers of one new person at once make one account, and all are signed in", async () => {
  const both = await replicas();
  const browsers = Array.from({ length: 10 }, () => browserAt(both));
  const ends = await Promise.all(browsers.map((browser) => browser.open("/auth/login/oidc")));
  expect(ends.map(place)).toEqual(browsers.map(() => "/"));
  const ids = await Promise.all(browsers.map(me));
  expect(new Set(ids.map((user) => Reflect.get(Object(user), "id"))).size).toBe(1);
});

test("weak point 34: nobody is told how the hub is configured, and what is shown of an address is words of our own", async () => {
  const [replica] = await replicas();
  const browser = browserAt([replica]);
  expect([401, 404]).toContain((await browser.ask("/auth/debug")).status);
  expect(JSON.parse((await browser.ask("/auth/providers")).body)).toEqual({ google: false, github: false, oidc: true });
  const odd = await browser.open("/login?error=%3Cscript%3Ealert(1)%3C/script%3E&returnTo=/%22%3E%3Cscript%3E");
  expect(odd.body).toContain("The sign-in came to nothing.");
  expect(odd.body).not.toContain("<script");
  expect(odd.headers.get("content-security-policy")).toContain("default-src 'none'");
  expect(place(await browser.open("/auth/login/google"))).toBe("/login?error=invalid_provider");
  const none = browserAt([await scene.replica({ SCION_DEV_TOKEN: "" })]);
  expect((await none.open("/")).body).toContain("No provider is set up");
});

test("a provider that is away is said so, and is asked again the next time", async () => {
  const both = await replicas();
  await oidc.stop();
  const browser = browserAt(both);
  const away = await browser.open("/auth/login/oidc");
  expect([place(away), away.body]).toEqual([
    "/login?error=provider_unavailable",
    expect.stringContaining("The provider cannot be reached."),
  ]);
});
