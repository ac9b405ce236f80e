import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { HubError } from "@rootstock/protocol";
import { systemClock, systemRandom } from "@rootstock/service";
import { ensureUser } from "@rootstock/store";
import { createTestStore, type TestStore, testLog } from "@rootstock/testkit";
import type { RootSecrets } from "../secrets/index.ts";
import { signInParts } from "./authenticator.testing.ts";
import { BrowserSessions, provenanceOf, SealedTokens } from "./index.ts";

const FORMER = "the former secret of at least 32 bytes";
const PRESENT = "the present secret of at least 32 bytes";
const HOUR_MS = 3_600_000;
const user = { id: systemRandom.uuid(), email: "ann@example.org", displayName: "Ann", role: "member" as const };
const subject = { id: user.id, email: user.email, tokenVersion: 1 };
let now = systemClock.now();
const base = { clock: { ...systemClock, now: () => now }, random: systemRandom, log: testLog() };
let store: TestStore;

beforeAll(async () => {
  store = await createTestStore();
  await ensureUser(store.db, user);
});
afterAll(() => store.drop());

const sessions = (...secrets: RootSecrets) =>
  new BrowserSessions(base, {
    db: store.db,
    secrets,
    signIns: signInParts(base, store.db).signIns,
    publicUrl: undefined,
  });
const request = (cookie: string, method = "GET", more: Readonly<Record<string, string>> = {}) => ({
  method,
  headers: new Headers({ cookie, ...more }),
});
const pair = (setCookie: string): string => setCookie.split(";", 1)[0] ?? "";
const refusal = async (attempt: Promise<unknown>): Promise<string> => {
  try {
    return `in: ${JSON.stringify(await attempt)}`;
  } catch (err) {
    if (err instanceof HubError) return `${err.status} ${err.code}`;
    throw err;
  }
};

test("over TLS the cookie is the host's own and Secure; one had without TLS does not count there", async () => {
  const one = sessions(PRESENT);
  const plain = await one.begin(subject, "http://127.0.0.1:8787");
  const secure = await one.begin(subject, "https://hub.example");
  expect(plain).toMatch(/^rootstock_session=[\w.-]+; Path=\/; Max-Age=86400; HttpOnly; SameSite=Lax$/);
  expect(secure).toMatch(/^__Host-rootstock_session=[\w.-]+; Path=\/; Max-Age=86400; HttpOnly; SameSite=Lax; Secure$/);
  for (const cookie of [plain, secure]) expect(await one.userOf(request(pair(cookie)))).toMatchObject({ user });
  expect(await refusal(one.userOf(request(`__Host-${pair(plain)}`)))).toBe("401 unauthorized");
  // A planted cookie does not stand before the host's own.
  const planted = `rootstock_session=planted; ${pair(secure)}`;
  expect(await one.userOf(request(planted))).toMatchObject({ user });
});

test("a session that another replica has begun since everything before was ended counts at once", async () => {
  const one = sessions(PRESENT);
  const before = pair(await one.begin(subject, "http://hub"));
  expect(await one.userOf(request(before))).toMatchObject({ user });
  await store.query("update users set token_version = token_version + 1 where id = $1", [user.id]);
  const after = pair(await one.begin({ ...subject, tokenVersion: 2 }, "http://hub"));
  expect(await one.userOf(request(after))).toMatchObject({ user });
  expect(await refusal(one.userOf(request(before)))).toBe("401 unauthorized");
  await store.query("update users set token_version = 1 where id = $1", [user.id]);
});

test("a session goes on as long as it is used, and ends a day after its last use", async () => {
  const one = sessions(PRESENT);
  const cookie = pair(await one.begin(subject, "http://hub"));
  const due = async (text: string) => (await one.userOf(request(text)))?.session;
  expect(await due(cookie)).toMatchObject({ due: false });
  now += 2 * HOUR_MS;
  const session = await due(cookie);
  if (!session) throw new Error("no session");
  expect(session.due).toBe(true);
  const later = pair(await one.renew(user, session));
  now += 23 * HOUR_MS;
  expect(await refusal(one.userOf(request(cookie)))).toBe("401 unauthorized");
  expect((await due(later))?.signInId).toBe(session.signInId);
  now += 2 * HOUR_MS;
  expect(await refusal(one.userOf(request(later, "GET", { accept: "text/html" })))).toBe("401 session_expired");
});

test("replacing ROOTSTOCK_SECRET signs nobody out until the former one is gone", async () => {
  const former = pair(await sessions(FORMER).begin(subject, "http://hub"));
  expect(await sessions(FORMER, PRESENT).userOf(request(former))).toMatchObject({ user });
  const between = sessions(PRESENT, FORMER);
  const found = await between.userOf(request(former));
  if (!found) throw new Error("signed out");
  const renewed = pair(await between.renew(user, found.session));
  expect(await sessions(PRESENT).userOf(request(renewed))).toMatchObject({ user });
  expect(await refusal(sessions(PRESENT).userOf(request(former)))).toBe("401 unauthorized");
});

test("a cookie that was changed, made for something else, or names nothing is no session", async () => {
  const one = sessions(PRESENT);
  const [name = "", value = ""] = pair(await one.begin(subject, "http://hub")).split("=");
  const parts = value.split(".");
  const changed = [...parts.slice(0, 3), `${(parts[3] ?? "").slice(0, -2)}AA`, parts[4]].join(".");
  const other = new SealedTokens({ secrets: [PRESENT], purpose: "browser-sign-in", clock: base.clock });
  const claims = { sub: user.id, tv: 1, sid: systemRandom.uuid() };
  const forAnother = await other.seal(claims, { audience: name, seconds: 60 });
  const own = new SealedTokens({ secrets: [PRESENT], purpose: "browser-session", clock: base.clock });
  const neverBegun = await own.seal(claims, { audience: name, seconds: 60 });
  const noUser = await own.seal({ ...claims, sub: "x" }, { audience: name, seconds: 60 });
  for (const wrong of [changed, forAnother, neverBegun, noUser, "x", "a.b.c.d.e"])
    expect(await refusal(one.userOf(request(`${name}=${wrong}`)))).toBe("401 unauthorized");
  expect(await one.userOf(request("other=1"))).toBeUndefined();
});

test.each([
  ["GET", {}, true],
  ["GET", { "sec-fetch-site": "cross-site" }, true],
  ["POST", {}, false],
  ["POST", { origin: "http://hub.example" }, true],
  ["POST", { origin: "http://hub.example", "sec-fetch-site": "same-site" }, false],
  ["POST", { origin: "https://evil.example", "sec-fetch-site": "cross-site" }, false],
  ["POST", { "sec-fetch-site": "same-origin" }, true],
  ["POST", { origin: "https://evil.example" }, false],
  ["POST", { origin: "https://hub.example.evil.example" }, false],
  ["POST", { origin: "null" }, false],
  ["DELETE", { origin: "http://hub.example:81" }, false],
  ["GET", { upgrade: "websocket" }, false],
  ["GET", { upgrade: "websocket", origin: "https://evil.example" }, false],
  ["GET", { upgrade: "websocket", origin: "http://hub.example" }, true],
] as const)("what may change something comes from our own pages: %s %j", async (method, headers, allowed) => {
  const one = sessions(PRESENT);
  const cookie = pair(await one.begin(subject, "http://hub.example"));
  const answer = await refusal(one.userOf(request(cookie, method, { host: "hub.example", ...headers })));
  expect(answer.startsWith("in:")).toBe(allowed);
  if (!allowed) expect(answer).toBe("403 forbidden");
});

test("behind a load balancer that changes Host, the public URL says what is our own", () => {
  const headers = new Headers({ host: "10.0.0.7:8080", origin: "https://hub.example" });
  expect(provenanceOf(headers, undefined)).toBe("cross-origin");
  expect(provenanceOf(headers, "hub.example")).toBe("same-origin");
});
