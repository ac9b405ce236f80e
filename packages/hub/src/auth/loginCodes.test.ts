import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { systemClock, systemRandom } from "@rootstock/service";
import type { UserStanding } from "@rootstock/store";
import { createTestStore, type TestStore, testBase } from "@rootstock/testkit";
import type { RootSecrets } from "../secrets/index.ts";
import { signInParts } from "./authenticator.testing.ts";
import { LoginCodes, type LoginRequest, parseLoopbackUrl } from "./loginCodes.ts";
import { SigningKeys } from "./signingKeys.ts";

const SECRETS: RootSecrets = ["a shared secret of at least 32 bytes"];
const base = testBase();
const HUB = "https://hub.example.org";
const CALLBACK = "http://127.0.0.1:18271/callback";
const REQUEST: LoginRequest = {
  callbackUrl: CALLBACK,
  state: "s t+a/te",
  provider: undefined,
  address: "203.0.113.7",
  program: "scion-client/1.0",
};
let store: TestStore;
let parts: ReturnType<typeof signInParts>;
let codes: LoginCodes;
let ann: UserStanding;

const made = (over: { readonly secrets?: RootSecrets; readonly aheadMs?: number } = {}) => {
  const clock = { ...systemClock, now: () => systemClock.now() + (over.aheadMs ?? 0) };
  const signingKeys = new SigningKeys(over.secrets ?? SECRETS);
  return new LoginCodes({ ...base, clock }, { db: store.db, ...parts, signingKeys });
};

beforeEach(async () => {
  store = await createTestStore();
  parts = signInParts(base, store.db);
  codes = made();
  const id = systemRandom.uuid();
  await store.query("insert into users (id, email) values ($1, 'ann@example.org')", [id]);
  ann = { id, email: "ann@example.org", displayName: "Ann", role: "member", status: "active", tokenVersion: 1 };
});
afterEach(() => store.drop());

const refused = expect.objectContaining({ code: "oauth_error", message: "failed to exchange authorization code" });
const allowed = async (): Promise<string> => {
  const url = new URL(await codes.allow(REQUEST, ann, HUB));
  const { searchParams: q } = url;
  expect([url.origin + url.pathname, q.get("state"), q.get("iss")]).toEqual([CALLBACK, REQUEST.state, HUB]);
  return q.get("code") ?? "";
};

test("a request passes through the browser to any replica as it was made, for a while, and cannot be changed", async () => {
  const text = await codes.seal(REQUEST);
  expect(await made().open(text)).toEqual(REQUEST);
  expect(await made({ secrets: ["another secret of at least 32 bytes", ...SECRETS] }).open(text)).toEqual(REQUEST);
  expect(await made({ secrets: ["another secret of at least 32 bytes"] }).open(text)).toBeUndefined();
  expect(await made({ aheadMs: 12 * 60_000 }).open(text)).toBeUndefined();
  const [head, , signature] = text.split(".");
  const forged = Buffer.from(JSON.stringify({ ...REQUEST, callbackUrl: "http://127.0.0.1:1/" })).toString("base64url");
  for (const wrong of ["", "x", `${head}.${forged}.${signature}`]) expect(await codes.open(wrong)).toBeUndefined();
  expect(await store.query("select 1 from login_codes")).toEqual([]);
});

test("a code is good once, for the address that it was sent to, and for a minute; the table does not tell it", async () => {
  const code = await allowed();
  await expect(codes.redeem(code, "http://127.0.0.1:18272/callback")).rejects.toEqual(refused);
  const { tokens, user } = await made().redeem(code, CALLBACK);
  expect([user.id, tokens.expiresIn]).toEqual([ann.id, 30 * 86_400]);
  expect((await parts.signIns.userOf(tokens.accessToken)).user.id).toBe(ann.id);
  const late = await allowed();
  await store.query("update login_codes set expires_at = now() - interval '1 second'");
  await expect(codes.redeem(late, CALLBACK)).rejects.toEqual(refused);
  await expect(codes.redeem("made-up", CALLBACK)).rejects.toEqual(refused);
  const dump = JSON.stringify(await store.query("select encode(code_hash, 'escape') as c, l::text from login_codes l"));
  expect(dump).not.toContain(code);
});

test("a code that comes back takes away what it gave, also when both exchanges are under way at once", async () => {
  const code = await allowed();
  const both = await Promise.allSettled([codes.redeem(code, CALLBACK), made().redeem(code, CALLBACK)]);
  const given = both.flatMap((r) => (r.status === "fulfilled" ? [r.value.tokens] : []));
  expect(given).toHaveLength(1);
  await expect(parts.signIns.refresh(given[0]?.refreshToken ?? "")).rejects.toThrow("token revoked");
  const other = await allowed();
  const { tokens } = await codes.redeem(other, CALLBACK);
  expect((await parts.signIns.userOf(tokens.accessToken)).user.id).toBe(ann.id);
  await expect(codes.redeem(other, CALLBACK)).rejects.toEqual(refused);
  await expect(parts.signIns.refresh(tokens.refreshToken)).rejects.toThrow("token revoked");
});

test("whoever is suspended or signs out everywhere before the code is exchanged has taken it back", async () => {
  for (const change of ["token_version = token_version + 1", "status = 'suspended'"]) {
    const code = await allowed();
    await store.query(`update users set ${change}`);
    await expect(codes.redeem(code, CALLBACK)).rejects.toEqual(refused);
    await store.query("update users set status = 'active', token_version = 1");
  }
});

test("who says no sends the browser back without a code", () => {
  const url = new URL(codes.deny(REQUEST, HUB));
  expect(Object.fromEntries(url.searchParams)).toMatchObject({
    error: "access_denied",
    state: REQUEST.state,
    iss: HUB,
  });
});

test("a code goes to the person's own machine and nowhere else", () => {
  for (const good of [CALLBACK, "http://localhost:1/", "http://[::1]:65535/callback?x=1", "http://127.0.0.1/callback"])
    expect(parseLoopbackUrl(good)).toBe(good);
  for (const bad of [
    "",
    "callback",
    "https://127.0.0.1:18271/callback",
    "http://127.0.0.1.evil.example/",
    "http://127.0.0.1@evil.example/",
    "http://evil.example/?http://127.0.0.1/",
    "http://user:password@127.0.0.1/",
    "http://127.0.0.2:1/",
    "http://0.0.0.0/",
    "http://127.0.0.1:18271/callback#x",
    "http://127.0.0.1:18271\\@evil.example/",
    "javascript:alert(1)//127.0.0.1",
    `http://127.0.0.1/${"x".repeat(3_000)}`,
  ])
    expect(parseLoopbackUrl(bad)).toBeUndefined();
});
