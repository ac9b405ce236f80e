import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { loadHubConfig } from "@rootstock/hub";
import { systemClock } from "@rootstock/service";
import { type ApiReply, api, eventually, foreignUserToken, type Replica, Scene, testLogin } from "@rootstock/testkit";

/** What a person holds after signing in: good at every replica, refreshed once, and taken back everywhere. */

const TEST_LOGIN = { ROOTSTOCK_TEST_LOGIN: "1" };
let scene: Scene;
let a: Replica;
let b: Replica;
beforeEach(async () => {
  scene = await Scene.create();
  [a, b] = [await scene.replica(TEST_LOGIN), await scene.replica(TEST_LOGIN)];
});
afterEach(() => scene.end());

const me = (replica: Replica, token: string) => api(replica, "GET", "/api/v1/auth/me", undefined, { token });
const refresh = (replica: Replica, refreshToken: string) =>
  api(replica, "POST", "/api/v1/auth/refresh", { refreshToken });
const signIn = async (email = "ann@example.org"): Promise<ApiReply> => {
  const reply = await testLogin(a, { email, displayName: "Ann" });
  expect(reply.status).toBe(200);
  return reply;
};
const out = (replica: Replica, token: string) =>
  eventually(async () => (await me(replica, token)).status === 401, 2_000);

test("a pair of tokens is good at every replica, and each refresh token once", async () => {
  const pair = await signIn();
  expect(pair.json).toEqual({
    user: { id: expect.any(String), email: "ann@example.org", displayName: "Ann", role: "member" },
    accessToken: expect.any(String),
    refreshToken: expect.any(String),
    expiresIn: 900,
    expiresAt: expect.any(String),
  });
  expect((await me(b, pair.text("accessToken"))).json).toEqual(pair.get("user"));
  const next = await refresh(b, pair.text("refreshToken"));
  const { user: _, ...likewise } = Object(pair.json);
  expect(Object.keys(Object(next.json)).sort()).toEqual(Object.keys(likewise).sort());
  expect((await me(a, next.text("accessToken"))).status).toBe(200);
  expect((await refresh(a, next.text("refreshToken"))).status).toBe(200);
});

test("weak point 2: a refresh token is no bearer, and no access token refreshes", async () => {
  const pair = await signIn();
  const answer = await me(a, pair.text("refreshToken"));
  expect([answer.status, answer.get("error.message")]).toEqual([
    401,
    "invalid access token: a refresh token is no access token",
  ]);
  expect((await refresh(a, pair.text("accessToken"))).status).toBe(401);
  expect((await refresh(a, "x.y.z")).status).toBe(401);
  expect((await refresh(a, "")).status).toBe(400);
});

test("weak point 25: the client library finds what it reads: when the new token ends, or that the way is not there", async () => {
  const pair = await signIn();
  const next = await refresh(a, pair.text("refreshToken"));
  // It reads `expiresAt`; the CLI reads `expiresIn`.
  const seconds = (Date.parse(next.text("expiresAt")) - systemClock.now()) / 1000;
  expect(next.get("expiresIn")).toBe(900);
  expect(seconds).toBeGreaterThan(880);
  expect(seconds).toBeLessThanOrEqual(900);
  const password = await api(a, "POST", "/api/v1/auth/login", { email: "ann@example.org", password: "secret" });
  expect([password.status, password.get("error.code")]).toEqual([400, "validation_error"]);
  expect(password.get("error.details.required")).toEqual(["provider", "providerToken"]);
  const ticket = await api(a, "POST", "/api/v1/auth/ws-ticket", undefined, { token: next.text("accessToken") });
  expect([ticket.status, ticket.get("error.code")]).toEqual([501, "not_implemented"]);
});

test("weak point 1: a refresh token that comes back later ends the sign-in everywhere, and no other", async () => {
  const [pair, other] = [await signIn(), await signIn()];
  const next = await refresh(a, pair.text("refreshToken"));
  await refresh(b, next.text("refreshToken"));
  expect((await refresh(b, pair.text("refreshToken"))).status).toBe(401);
  expect((await refresh(a, next.text("refreshToken"))).status).toBe(401);
  for (const replica of [a, b]) await out(replica, next.text("accessToken"));
  expect((await me(a, other.text("accessToken"))).status).toBe(200);
});

test("a refresh token used again after more than a minute is one that was copied", async () => {
  const pair = await signIn();
  await refresh(a, pair.text("refreshToken"));
  await scene.database.query("update sign_ins set rotated_at = now() - interval '2 minutes'");
  expect((await refresh(a, pair.text("refreshToken"))).status).toBe(401);
  await out(b, pair.text("accessToken"));
});

test("ten processes that refresh at once with one token are no theft", async () => {
  const pair = await signIn();
  const all = await Promise.all(
    Array.from({ length: 10 }, (_, i) => refresh(i % 2 === 0 ? a : b, pair.text("refreshToken"))),
  );
  for (const next of all) {
    expect(next.status).toBe(200);
    expect((await me(a, next.text("accessToken"))).status).toBe(200);
  }
  expect((await refresh(b, all[3]?.text("refreshToken") ?? "")).status).toBe(200);
});

test("weak point 1: signing out ends the sign-in at every replica, signing out everywhere all of them", async () => {
  const [one, two, three] = [await signIn(), await signIn(), await signIn()];
  await api(a, "POST", "/api/v1/auth/logout", {}, { token: one.text("accessToken") });
  await out(b, one.text("accessToken"));
  expect((await refresh(b, one.text("refreshToken"))).status).toBe(401);
  expect((await me(b, two.text("accessToken"))).status).toBe(200);
  const everywhere = await api(b, "POST", "/api/v1/auth/sign-out-everywhere", undefined, {
    token: two.text("accessToken"),
  });
  expect(everywhere.status).toBe(204);
  for (const replica of [a, b]) await out(replica, three.text("accessToken"));
  expect((await refresh(a, three.text("refreshToken"))).status).toBe(401);
});

test("weak point 1: a suspended or deleted user's tokens are out, and do not come back with the account", async () => {
  const pair = await signIn();
  await scene.database.query("update users set status = 'suspended' where email = 'ann@example.org'");
  for (const replica of [a, b]) await out(replica, pair.text("accessToken"));
  await scene.database.query("update users set status = 'active' where email = 'ann@example.org'");
  expect((await refresh(a, pair.text("refreshToken"))).get("error.message")).toBe(
    "invalid refresh token: token revoked",
  );
  const again = await signIn();
  await scene.database.query("delete from users where email = 'ann@example.org'");
  await out(b, again.text("accessToken"));
});

test("tokens of the original and of its bridges stay good as far as the rows allow (spec/03 1.1)", async () => {
  const id = (await signIn()).text("user.id");
  const claims = { sub: id, uid: id, email: "ann@example.org", role: "admin", type: "access", client: "api" };
  const foreign = await foreignUserToken(claims);
  // Weak point 34: the role is the row's.
  expect((await me(b, foreign)).json).toMatchObject({ id, role: "member" });
  const old = await foreignUserToken({ ...claims, type: "refresh", jti: "old" });
  const next = await refresh(a, old);
  expect(next.status).toBe(200);
  expect((await me(b, next.text("accessToken"))).status).toBe(200);
  await refresh(b, next.text("refreshToken"));
  expect((await refresh(b, old)).status).toBe(401);
  await scene.database.query("update users set token_version = 2");
  await out(b, foreign);
});

test("weak points 33 and 34: a token without uid, or of nobody, proves nothing", async () => {
  const id = (await signIn()).text("user.id");
  const claims = { sub: id, uid: id, email: "x@example.org", role: "admin", type: "access", client: "api" };
  const nobody = "0e0e0e0e-0000-4000-8000-000000000001";
  for (const wrong of [
    { ...claims, uid: undefined },
    { ...claims, uid: "" },
    { ...claims, uid: nobody },
    { ...claims, type: "other" },
    { ...claims, aud: "scion-test-login" },
    { ...claims, iss: "somebody" },
    { ...claims, exp: 1 },
  ])
    expect((await me(a, await foreignUserToken(wrong))).status).toBe(401);
  const stranger = await foreignUserToken(claims, "another secret of at least 32 bytes");
  expect((await me(a, stranger)).status).toBe(401);
});

test("validate says whose a token is, or that it is nobody's", async () => {
  const pair = await signIn();
  const validate = (token: string) => api(b, "POST", "/api/v1/auth/validate", { token });
  expect((await validate(pair.text("accessToken"))).json).toEqual({
    valid: true,
    user: pair.get("user"),
    expiresAt: expect.any(String),
    tokenType: "access",
    clientType: "web",
  });
  expect((await validate(pair.text("refreshToken"))).json).toMatchObject({ valid: true, tokenType: "refresh" });
  expect((await validate("nonsense")).json).toEqual({ valid: false });
  expect((await validate("")).status).toBe(400);
});

test("the test login is off unless it is switched on, and never open to the network by accident", async () => {
  const without = await scene.replica();
  expect((await testLogin(without, { email: "eve@example.org" })).status).toBe(403);
  const post = (token: string, body: unknown) => api(a, "POST", "/api/v1/auth/test-login", body, { token });
  const good = await foreignUserToken({ sub: "t", aud: "scion-test-login" });
  expect((await post("nonsense", { email: "eve@example.org" })).status).toBe(401);
  expect((await post(await foreignUserToken({ sub: "t" }), { email: "eve@example.org" })).status).toBe(401);
  const endless = await foreignUserToken({ sub: "t", aud: "scion-test-login", exp: undefined });
  expect((await post(endless, { email: "eve@example.org" })).status).toBe(401);
  expect((await post(good, { email: "nobody" })).status).toBe(400);
  expect((await post(good, { email: "eve@example.org", role: "root" })).status).toBe(400);
  expect((await post(good, { email: "eve@example.org", displayName: "e".repeat(5_000) })).status).toBe(400);
  const env = { DATABASE_URL: "postgres://h/d", ROOTSTOCK_SECRET: "s".repeat(32), ROOTSTOCK_TEST_LOGIN: "1" };
  expect(() => loadHubConfig({ ...env, HOST: "0.0.0.0" })).toThrow("ROOTSTOCK_TEST_LOGIN");
  expect(loadHubConfig({ ...env, HOST: "0.0.0.0", ROOTSTOCK_ALLOW_REMOTE_TEST_LOGIN: "1" }).signIn.testLogin).toBe(
    true,
  );
});
