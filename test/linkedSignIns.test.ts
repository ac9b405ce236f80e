import { afterEach, beforeEach, expect, test } from "@jest/globals";
import {
  api,
  eventually,
  foreignUserToken,
  IdentityProvider,
  type Replica,
  Scene,
  SimulatedGithub,
  SimulatedOidc,
  TestBrowser,
  testLogin,
  type Visit,
} from "@rootstock/testkit";

/** Which sign-ins open an account: nobody comes in by an address alone, and people link what is theirs. */

const HUB = "http://hub.test";
const AUDIENCE = "/projects/1/global/backendServices/2";
const NOBODY = { actor_email: null, credential: null };
const FORM = { "content-type": "application/x-www-form-urlencoded" };
let scene: Scene;
let oidc: SimulatedOidc;
let github: SimulatedGithub;

beforeEach(async () => {
  scene = await Scene.create();
  [oidc, github] = [await SimulatedOidc.start(), await SimulatedGithub.start()];
  scene.onEnd(() => oidc.stop());
  scene.onEnd(() => github.stop());
});
afterEach(() => scene.end());

const replicas = async (env: Readonly<Record<string, string>> = {}): Promise<readonly [Replica, Replica]> => {
  const all = { ...oidc.environment(), ...github.environment(), ROOTSTOCK_TEST_LOGIN: "1", ...env };
  return [await scene.replica(all), await scene.replica(all)];
};
const browserAt = (both: readonly Replica[]) => new TestBrowser({ hub: HUB, replicas: both });
const place = ({ url }: Visit): string => url.pathname + url.search;
const me = async (browser: TestBrowser): Promise<unknown> => {
  const { status, body } = await browser.ask("/auth/me");
  return status === 200 ? Reflect.get(JSON.parse(body), "id") : status;
};
/** What the page on the way to a provider leads to. */
const wayOn = ({ body }: Visit): string =>
  /http-equiv="refresh" content="0;url=([^"]*)"/.exec(body)?.[1]?.replaceAll("&amp;", "&") ?? "nowhere";
/** As far as the provider's answer: where the browser would come back to. */
const answered = async (browser: TestBrowser): Promise<string> => {
  const { url } = await browser.open(wayOn(await browser.submit("/auth/link/github", {})), (next) =>
    next.pathname.startsWith("/auth/callback/"),
  );
  return url.pathname + url.search;
};
const githubIs = (id: number, email: string): void => {
  github.account = { id, login: `user${id}`, emails: [{ email, primary: true, verified: true }] };
};
const oidcIs = (sub: string, email: string): void => {
  oidc.account = { sub, email, email_verified: true };
};
const accounts = () => scene.database.query("select email from users where email <> 'dev@localhost' order by email");
const audited = (action: string) =>
  scene.database.query(
    "select actor_email, credential, success, target_name, details ->> 'issuer' as issuer from audit_log where action = $1 order by id",
    [action],
  );

test("weak point 3: a second provider with the same verified address is refused at the page, by the API, and in the log", async () => {
  const both = await replicas();
  const ann = browserAt(both);
  await ann.open("/auth/login/oidc");
  const id = await me(ann);
  const stranger = browserAt(both);
  const refused = await stranger.open("/auth/login/github");
  expect(place(refused)).toBe("/login?error=identity_not_linked");
  expect(refused.body).toContain("This e-mail address belongs to an account that another sign-in opens.");
  expect(await me(stranger)).toBe(401);
  const byToken = await api(
    both[0],
    "POST",
    "/api/v1/auth/login",
    { provider: "github", providerToken: github.tokenFor(github.clientId) },
    { token: "" },
  );
  expect([byToken.status, byToken.get("error.code")]).toEqual([403, "identity_not_linked"]);
  expect(byToken.body).not.toContain(oidc.url);
  expect(await accounts()).toEqual([{ email: "ann@example.org" }]);
  expect(await audited("login_denied")).toEqual([
    { ...NOBODY, success: false, issuer: github.url, target_name: "ann@example.org" },
    { ...NOBODY, success: false, issuer: github.url, target_name: "ann@example.org" },
  ]);
  expect(await me(ann)).toBe(id);
});

test("weak point 3: people link another sign-in to their account in the browser, and unlink it, at any replica", async () => {
  const both = await replicas();
  const ann = browserAt(both);
  expect(place(await ann.open("/account"))).toBe("/login?returnTo=%2Faccount");
  await ann.open("/auth/login/oidc");
  const id = await me(ann);
  const page = await ann.open("/account");
  expect(page.body).toContain('action="/auth/link/github"');
  expect(page.body).not.toMatch(/auth\/link\/oidc|auth\/unlink|<script/);
  githubIs(9, "ann@home.example");
  const linked = await ann.open(wayOn(await ann.submit("/auth/link/github", {})));
  expect([place(linked), linked.body]).toEqual(["/account?linked=1", expect.stringContaining("ann@home.example")]);
  expect(linked.body).not.toContain("auth/link/");
  const other = browserAt(both);
  expect(place(await other.open("/auth/login/github"))).toBe("/");
  expect(await me(other)).toBe(id);
  expect(await accounts()).toEqual([{ email: "ann@example.org" }]);
  expect((await audited("user_identity_linked")).at(-1)).toEqual({
    actor_email: "ann@example.org",
    credential: "session",
    success: true,
    issuer: github.url,
    target_name: "ann@home.example",
  });

  const listed = JSON.parse((await ann.ask("/api/v1/auth/identities")).body);
  expect(listed).toMatchObject({
    identities: [
      { issuer: oidc.url, subject: "1", provider: "oidc", label: "Single sign-on", email: "ann@example.org" },
      { issuer: github.url, subject: "9", provider: "github", email: "ann@home.example" },
    ],
  });
  const [first, second] = listed.identities;
  const unlinked = await ann.submit("/auth/unlink", { id: second.id });
  expect([place(unlinked), unlinked.body]).toEqual(["/account?unlinked=1", expect.stringContaining("Unlinked.")]);
  // What it had opened is over; who has unlinked it goes on.
  await eventually(async () => (await me(other)) === 401 && (await me(other)) === 401, 2_000);
  expect([await me(ann), await me(ann)]).toEqual([id, id]);
  expect(await accounts()).toEqual([{ email: "ann@example.org" }]);
  expect(place(await ann.submit("/auth/unlink", { id: first.id }))).toBe("/account?error=last_sign_in");
  expect((await audited("user_identity_unlinked")).map(({ issuer }) => issuer)).toEqual([github.url]);
  // By itself it opens an account of its own by now.
  expect(place(await other.open("/auth/login/github"))).toBe("/");
  expect(await accounts()).toEqual([{ email: "ann@example.org" }, { email: "ann@home.example" }]);
  const taken = await ann.open(wayOn(await ann.submit("/auth/link/github", {})));
  expect([place(taken), taken.body]).toEqual([
    "/account?error=identity_taken",
    expect.stringContaining("opens another account already"),
  ]);
});

test("weak point 3: a link counts for the session that began it, from a page of the hub, once", async () => {
  const both = await replicas();
  const ann = browserAt(both);
  await ann.open("/auth/login/oidc");
  const id = await me(ann);
  githubIs(9, "mallory@example.org");
  for (const origin of [{}, { origin: "https://evil.example" }, { "sec-fetch-site": "cross-site" }])
    for (const path of ["/auth/link/github", "/auth/unlink"])
      expect((await ann.ask(path, "POST", { ...FORM, ...origin }, "")).status).toBe(403);
  expect((await ann.ask("/auth/link/github", "GET")).status).toBe(405);

  // Mallory's answer in Ann's browser: she has begun nothing, or something else.
  const mallory = browserAt(both);
  oidcIs("2", "mallory@example.org");
  await mallory.open("/auth/login/oidc");
  const theirs = await answered(mallory);
  expect(place(await ann.open(theirs))).toBe("/login?error=session_error");
  await answered(ann);
  expect(place(await ann.open(theirs))).toBe("/account?error=state_mismatch");

  // Even with the cookie of the link: it is for who began it, and their session.
  const planted = await answered(mallory);
  const [name = "", value = ""] = /rootstock_sign_in=[^;]*/.exec(mallory.cookieHeader())?.[0].split("=") ?? [];
  ann.cookies.get("hub.test")?.set(name, value);
  expect(place(await ann.open(planted))).toBe("/login?error=link_session&returnTo=%2Faccount");
  const before = await answered(mallory);
  const jar = mallory.cookies.get("hub.test");
  const begun = jar?.get("rootstock_sign_in") ?? "";
  await mallory.open("/auth/login/oidc");
  jar?.set("rootstock_sign_in", begun);
  expect(place(await mallory.open(before))).toBe("/login?error=link_session&returnTo=%2Faccount");
  const out = await answered(mallory);
  jar?.delete("rootstock_session");
  expect(place(await mallory.open(out))).toBe("/login?error=link_session&returnTo=%2Faccount");
  expect(await scene.database.query("select subject from user_identities where issuer = $1", [github.url])).toEqual([]);

  const back = await answered(ann);
  expect(place(await ann.open(back))).toBe("/account?linked=1");
  expect((await ann.ask(back)).headers.get("location")).toBe("/login?error=session_error");
  expect(await me(ann)).toBe(id);
});

test("people see and unlink their own sign-ins by the API, administrators everybody's, and nobody else's are there", async () => {
  const both = await replicas();
  const ann = browserAt(both);
  await ann.open("/auth/login/oidc");
  const id = String(await me(ann));
  await ann.open(wayOn(await ann.submit("/auth/link/github", {})));
  const bob = (await testLogin(both[0], { email: "bob@example.org" })).text("accessToken");
  const asBob = { token: bob };
  const all = await api(both[1], "GET", `/api/v1/users/${id}/identities`);
  const [work, home] = all.list("identities").map((one) => String(Reflect.get(Object(one), "id")));
  expect((await api(both[0], "GET", "/api/v1/auth/identities", undefined, asBob)).json).toEqual({ identities: [] });
  expect((await api(both[0], "DELETE", `/api/v1/auth/identities/${work}`, undefined, asBob)).status).toBe(404);
  expect((await api(both[0], "GET", `/api/v1/users/${id}/identities`, undefined, asBob)).status).toBe(403);
  expect((await api(both[0], "DELETE", `/api/v1/users/${id}/identities/${work}`, undefined, asBob)).status).toBe(403);
  const asAnn = async () => {
    const [user] = await scene.database.query("select token_version as v from users where id = $1", [id]);
    return { token: await foreignUserToken({ sub: id, uid: id, type: "access", client: "api", tv: user?.v }) };
  };
  const own = await asAnn();
  expect((await api(both[0], "GET", "/api/v1/auth/identities", undefined, own)).list("identities")).toHaveLength(2);
  expect((await api(both[0], "DELETE", `/api/v1/auth/identities/${home}`, undefined, own)).status).toBe(204);
  await eventually(async () => (await me(ann)) === 401, 2_000);
  const last = await api(both[1], "DELETE", `/api/v1/auth/identities/${work}`, undefined, await asAnn());
  expect([last.status, last.get("error.code")]).toEqual([409, "conflict"]);
  expect((await api(both[1], "DELETE", `/api/v1/users/${id}/identities/${work}`)).status).toBe(204);
  expect((await api(both[1], "DELETE", `/api/v1/users/${id}/identities/${work}`)).status).toBe(404);
  // Without any, the account is its address's again: as one that was moved here.
  const other = browserAt(both);
  await other.open("/auth/login/github");
  expect(await me(other)).toBe(id);
});

test("what is unlinked opens nothing behind a proxy either, at every replica at once; the proxy's people link as well", async () => {
  const iap = await IdentityProvider.start();
  scene.onEnd(() => iap.stop());
  const both = await replicas({
    ROOTSTOCK_IAP_AUDIENCE: AUDIENCE,
    ROOTSTOCK_IAP_ISSUER: iap.issuer,
    ROOTSTOCK_IAP_JWKS_URL: iap.jwksUrl,
  });
  const account = { sub: "accounts.google.com:5", email: "accounts.google.com:ann@example.org" };
  const headers = async () => ({ "x-goog-iap-jwt-assertion": await iap.sign(account, AUDIENCE) });
  const ann = new TestBrowser({ hub: HUB, replicas: both, headers });
  const id = await me(ann);
  expect(await scene.database.query("select issuer, subject from user_identities")).toEqual([
    { issuer: iap.issuer, subject: "5" },
  ]);
  githubIs(9, "ann@home.example");
  const linked = await ann.open(wayOn(await ann.submit("/auth/link/github", {})));
  expect([place(linked), linked.body]).toEqual(["/account?linked=1", expect.stringContaining(iap.issuer)]);
  const other = browserAt(both);
  await other.open("/auth/login/github");
  expect([await me(other), await me(ann), await me(ann)]).toEqual([id, id, id]);
  const [google] = JSON.parse((await other.ask("/api/v1/auth/identities")).body).identities;
  // Behind the proxy she would be refused from then on, whatever she holds.
  expect(place(await ann.submit("/auth/unlink", { id: google.id }))).toBe("/account?error=sign_in_in_use");
  expect((await ann.ask(`/api/v1/auth/identities/${google.id}`, "DELETE", { origin: HUB })).status).toBe(409);
  await other.submit("/auth/unlink", { id: google.id });
  for (const replica of both)
    await eventually(async () => {
      const reply = await api(replica, "GET", "/api/v1/auth/me", undefined, {
        headers: { authorization: "", ...(await headers()) },
      });
      return reply.status === 403 && reply.get("error.code") === "identity_not_linked";
    }, 2_000);
  const page = await ann.open("/");
  expect([page.status, page.body]).toEqual([403, expect.stringContaining("another sign-in opens")]);
  expect(page.body).not.toContain("I have an invite");
  expect(await me(other)).toBe(id);
});

test("providers of one directory open each other's accounts by address where the operator has said so", async () => {
  // Configured with a slash at its end: discovery takes it for the same, and its people are stored without.
  const both = await replicas({ ROOTSTOCK_LINK_BY_EMAIL: "oidc, github", ROOTSTOCK_OIDC_ISSUER: `${oidc.url}/` });
  const [one, two] = [browserAt(both), browserAt(both)];
  await one.open("/auth/login/oidc");
  const { body } = await one.open("/account");
  expect([body.includes("/auth/link/github"), body.includes("/auth/link/oidc")]).toEqual([true, false]);
  expect(place(await two.open("/auth/login/github"))).toBe("/");
  expect(await me(two)).toBe(await me(one));
  await expect(scene.replica({ ROOTSTOCK_LINK_BY_EMAIL: "google" })).rejects.toThrow("google is not configured");
  await expect(scene.replica({ ROOTSTOCK_LINK_BY_EMAIL: "gogle" })).rejects.toThrow(
    '"gogle" is none of google, github',
  );
});
