import { afterEach, beforeEach, expect, test } from "@jest/globals";
import {
  type Account,
  api,
  eventually,
  IdentityProvider,
  openEventStream,
  type Replica,
  Scene,
  TEST_TOKEN,
  TestBrowser,
} from "@rootstock/testkit";

/** Pages behind a proxy that signs people in: there is nothing to sign in to. */

const AUDIENCE = "/projects/1/global/backendServices/2";
const ANN: Account = { sub: "1", email: "ann@example.org", name: "Ann" };
let scene: Scene;
let iap: IdentityProvider;

beforeEach(async () => {
  scene = await Scene.create();
  iap = await IdentityProvider.start();
  scene.onEnd(() => iap.stop());
});
afterEach(() => scene.end());

const replicas = async (env: Readonly<Record<string, string>> = {}): Promise<readonly [Replica, Replica]> => {
  const all = {
    ROOTSTOCK_IAP_AUDIENCE: AUDIENCE,
    ROOTSTOCK_IAP_ISSUER: iap.issuer,
    ROOTSTOCK_IAP_JWKS_URL: iap.jwksUrl,
    ...env,
  };
  return [await scene.replica(all), await scene.replica(all)];
};
const browserOf = (account: Account | undefined, both: readonly Replica[]) =>
  new TestBrowser({
    hub: "http://hub.test",
    replicas: both,
    headers: async () => (account ? { "x-goog-iap-jwt-assertion": await iap.sign(account, AUDIENCE) } : {}),
  });

test("weak point 7: behind IAP pages need no cookie and no provider, and the way out is the proxy's", async () => {
  const both = await replicas();
  const browser = browserOf(ANN, both);
  for (let i = 0; i < 2; i += 1) {
    const home = await browser.open("/");
    expect([home.status, home.url.pathname]).toEqual([200, "/"]);
    expect(home.body).toContain("ann@example.org");
  }
  expect(browser.cookieHeader()).toBe("");
  expect((await browser.open("/login")).body).toContain("You are signed in");
  expect(JSON.parse((await browser.ask("/auth/me")).body)).toMatchObject({ email: "ann@example.org", role: "member" });
  expect(JSON.parse((await browser.ask("/auth/providers")).body)).toMatchObject({ authMode: "proxy" });
  const out = await browser.ask("/auth/logout", "GET", { accept: "text/html" });
  expect([out.status, out.headers.get("location")]).toEqual([302, "/_gcp_iap/clear_login_cookie"]);
  const stranger = await browserOf(undefined, both).open("/");
  expect([stranger.status, stranger.url.pathname]).toEqual([200, "/login"]);
  expect(stranger.body).toContain("your request did not come through it");
});

test("weak point 5: behind IAP somebody who is not listed may still accept an invite, and is in", async () => {
  const both = await replicas({ ROOTSTOCK_ACCESS: "invite_only" });
  const code = (
    await api(both[0], "POST", "/api/v1/admin/invites", { expiresIn: "1h", maxUses: 1 }, { token: TEST_TOKEN })
  ).text("code");
  const browser = browserOf(ANN, both);
  const refused = await browser.open("/");
  expect([refused.status, refused.body]).toEqual([403, expect.stringContaining("Your account may not sign in here.")]);
  expect((await browser.open("/login")).body).toContain("You cannot come in");
  expect((await browser.open(`/invite?code=${code}`)).body).toContain("Accept the invite");
  const crossSite = await browser.ask(
    "/invite",
    "POST",
    { origin: "https://evil.example", "content-type": "application/x-www-form-urlencoded" },
    `code=${code}`,
  );
  expect(crossSite.status).toBe(403);
  const home = await browser.submit("/invite", { code });
  expect([home.status, home.body]).toEqual([200, expect.stringContaining("you are in")]);
  for (let i = 0; i < 2; i += 1) expect((await browser.open("/")).status).toBe(200);
});

test("behind a proxy, too, another site's page changes nothing; a program that is no browser may", async () => {
  const both = await replicas();
  const browser = browserOf(ANN, both);
  const make = async (name: string, headers: Readonly<Record<string, string>>) =>
    (
      await browser.ask(
        "/api/v1/projects",
        "POST",
        { "content-type": "application/json", ...headers },
        `{"name":"${name}"}`,
      )
    ).status;
  expect(await make("a", { origin: "https://evil.example" })).toBe(403);
  expect(await make("a", { "sec-fetch-site": "cross-site" })).toBe(403);
  expect(await make("a", { origin: "http://hub.test" })).toBe(201);
  expect(await make("b", {})).toBe(201);
});

test("who the proxy says now counts, not the cookie that somebody else has left", async () => {
  const both = await replicas({ ROOTSTOCK_TEST_LOGIN: "1" });
  const browser = browserOf(ANN, both);
  await browser.submit("/auth/login/development", { token: TEST_TOKEN });
  expect(browser.cookieHeader()).toContain("rootstock_session=");
  expect(JSON.parse((await browser.ask("/auth/me")).body)).toMatchObject({ email: "ann@example.org" });
});

test("who is taken off the allow list is out at every replica within two seconds, open streams included", async () => {
  const both = await replicas({ ROOTSTOCK_ACCESS: "allow_list" });
  const list = (method: string, path: string, body?: object) =>
    api(both[0], method, `/api/v1/admin/allow-list${path}`, body, { token: TEST_TOKEN });
  expect((await list("POST", "", { email: ANN.email, note: "" })).status).toBe(201);
  const headers = { "x-goog-iap-jwt-assertion": await iap.sign(ANN, AUDIENCE) };
  const statuses = () =>
    Promise.all(both.map(async ({ url }) => (await fetch(`${url}/api/v1/auth/me`, { headers })).status));
  expect(await statuses()).toEqual([200, 200]);
  const streams = await Promise.all(both.map((replica) => openEventStream(replica, { patterns: [">"], headers })));
  let ended = 0;
  for (const stream of streams) void stream.ended.then(() => (ended += 1));
  expect((await list("POST", "", { email: "bea@example.org", note: "" })).status).toBe(201);
  expect(await statuses()).toEqual([200, 200]);
  expect((await list("DELETE", `/${ANN.email}`)).status).toBe(200);
  await eventually(async () => (await statuses()).every((status) => status === 403) && ended === both.length, 2_000);
});
