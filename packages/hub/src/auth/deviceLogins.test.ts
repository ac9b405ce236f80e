import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import type { Db, UserStanding } from "@rootstock/store";
import { createTestStore, type TestStore, testBase } from "@rootstock/testkit";
import { signInParts } from "./authenticator.testing.ts";
import { DeviceLogins } from "./deviceLogins.ts";
import { newUserCode, parseUserCode } from "./userCodes.ts";

/** Two replicas on one database: whatever one has begun the other goes on with. */

const base = testBase();
const ASKER = { address: "203.0.113.7", program: "scion-client/1.0" };
let store: TestStore;
let a: DeviceLogins;
let b: DeviceLogins;
let signIns: ReturnType<typeof signInParts>["signIns"];
let ann: UserStanding;

beforeEach(async () => {
  store = await createTestStore();
  const replica = (db: Db) => {
    const parts = signInParts(base, db);
    signIns = parts.signIns;
    return new DeviceLogins(base, { db, ...parts });
  };
  [a, b] = [replica(store.db), replica(store.another().db)];
  ann = await user("ann@example.org");
});
afterEach(() => store.drop());

const user = async (email: string): Promise<UserStanding> => {
  const id = systemRandom.uuid();
  await store.query("insert into users (id, email, display_name) values ($1, $2, 'Ann')", [id, email]);
  return { id, email, displayName: "Ann", role: "member", status: "active", tokenVersion: 1 };
};
/** As if the program had waited for so long. */
const waited = (seconds: number) =>
  store.query("update device_logins set polled_at = polled_at - make_interval(secs => $1)", [seconds]);
const refused = expect.objectContaining({ code: "oauth_error" });

test("what a person allows at one replica signs the program in at another, once", async () => {
  const login = await a.begin(ASKER);
  expect(login).toMatchObject({ expiresIn: 600, interval: 5 });
  expect(await b.poll(login.deviceCode)).toEqual({ status: "authorization_pending" });
  expect(await b.find(login.userCode, ann)).toEqual({ ...ASKER, created: expect.any(Date) });
  expect(await b.decide(login.userCode.toLowerCase().replace("-", " "), ann, true)).toBe(true);
  expect(await a.decide(login.userCode, ann, false)).toBe(false);
  const done = await a.poll(login.deviceCode);
  if (done.status !== "signed_in") throw new Error(done.status);
  expect(done.user.id).toBe(ann.id);
  expect(done.tokens.expiresIn).toBe(30 * 86_400);
  expect((await signIns.userOf(done.tokens.accessToken)).user.id).toBe(ann.id);
});

test("of two that exchange one approval at once one gets tokens, and a code that comes back takes them away", async () => {
  const login = await a.begin(ASKER);
  await a.decide(login.userCode, ann, true);
  const both = await Promise.allSettled([a.poll(login.deviceCode), b.poll(login.deviceCode)]);
  expect(both.map((r) => r.status).sort()).toEqual(["fulfilled", "rejected"]);
  const rows = await store.query<{ ended: boolean }>("select ended_at is not null as ended from sign_ins");
  expect(rows).toEqual([{ ended: true }]);
  await expect(a.poll(login.deviceCode)).rejects.toEqual(refused);
});

test("a program that asks too soon must wait longer each time, whichever replicas it asks", async () => {
  const { deviceCode } = await a.begin(ASKER);
  expect(await a.poll(deviceCode)).toEqual({ status: "authorization_pending" });
  expect(await b.poll(deviceCode)).toEqual({ status: "slow_down", interval: 10 });
  expect(await a.poll(deviceCode)).toEqual({ status: "slow_down", interval: 15 });
  await waited(10);
  expect(await b.poll(deviceCode)).toEqual({ status: "slow_down", interval: 20 });
  await waited(20);
  expect(await a.poll(deviceCode)).toEqual({ status: "authorization_pending" });
  const many = await Promise.all(Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? a : b).poll(deviceCode)));
  expect(many.every((answer) => answer.status === "slow_down")).toBe(true);
  expect(await store.query("select interval_seconds from device_logins")).toEqual([{ interval_seconds: 60 }]);
});

test("a login that is refused, over, or of nobody gives nothing", async () => {
  const [denied, late, unasked] = [await a.begin(ASKER), await a.begin(ASKER), await a.begin(ASKER)];
  await a.decide(denied.userCode, ann, false);
  await expect(b.poll(denied.deviceCode)).rejects.toEqual(refused);
  await a.decide(late.userCode, ann, true);
  await store.query("update device_logins set expires_at = now() - interval '1 second'");
  expect(await b.poll(late.deviceCode)).toEqual({ status: "expired_token" });
  expect(await b.find(unasked.userCode, ann)).toBeUndefined();
  expect(await b.decide(unasked.userCode, ann, true)).toBe(false);
  await expect(a.poll("scion_device_unknown")).rejects.toEqual(refused);
  expect(await store.query("select id from sign_ins")).toEqual([]);
});

test("whoever is suspended or signs out everywhere after having allowed a program has taken it back", async () => {
  for (const change of ["token_version = token_version + 1", "status = 'suspended'"]) {
    const bob = await user(`${systemRandom.uuid()}@example.org`);
    const login = await a.begin(ASKER);
    expect(await a.decide(login.userCode, bob, true)).toBe(true);
    await store.query(`update users set ${change} where id = $1`, [bob.id]);
    await expect(b.poll(login.deviceCode)).rejects.toEqual(refused);
  }
});

test("nobody goes on guessing codes, at all replicas together; others are not held up", async () => {
  const { userCode } = await a.begin(ASKER);
  const limited = expect.objectContaining({ code: "rate_limited" });
  const guesses = await Promise.allSettled(
    Array.from({ length: 30 }, (_, i) => (i % 2 === 0 ? a : b).find("BBBB-BBBB", ann)),
  );
  expect(guesses.filter((g) => g.status === "fulfilled")).toHaveLength(10);
  await expect(b.find(userCode, ann)).rejects.toEqual(limited);
  await expect(a.decide("no code", ann, true)).rejects.toEqual(limited);
  const bob = await user("bob@example.org");
  for (let i = 0; i < 20; i += 1) expect(await a.find(userCode, bob)).toBeDefined();
  await store.query("update user_code_tries set since = since - interval '11 minutes'");
  expect(await a.find(userCode, ann)).toBeDefined();
});

test("codes that are typed have no vowels and nothing that looks like a digit, and are read as people type them", () => {
  for (let i = 0; i < 200; i += 1) {
    const code = newUserCode(systemRandom);
    expect(code).toMatch(/^[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}$/);
    for (const typed of [code, code.toLowerCase(), code.replace("-", ""), ` ${code.replace("-", " – ")}\n`])
      expect(parseUserCode(typed)).toBe(code);
  }
  for (const typed of ["", "BCDF", "BCDF-GHJA", "BCDF-GHJKL", "BCDF-GHJ1", "ßßßß-ßßßß"])
    expect(parseUserCode(typed)).toBeUndefined();
});
