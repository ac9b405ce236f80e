import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { HubError } from "@rootstock/protocol";
import { systemRandom } from "@rootstock/service";
import { insertAllowed, insertInvite } from "@rootstock/store";
import { createTestStore, type TestStore, testBase } from "@rootstock/testkit";
import { type AdmissionRules, admission, newInviteCode, People, type ProvenIdentity, parseEmail } from "./index.ts";

const base = testBase();
const OPEN: AdmissionRules = {
  mode: "open",
  admins: new Set(["root@example.org"]),
  emailDomains: [],
  hostedDomains: [],
};
let store: TestStore;

beforeAll(async () => {
  store = await createTestStore({ poolSize: 12 });
});
afterAll(() => store.drop());

const people = (rules: Partial<AdmissionRules> = {}) =>
  new People(base, { db: store.db, rules: { ...OPEN, ...rules }, changed: () => {}, denied: async () => {} });
const person = (name: string, over: Partial<ProvenIdentity> = {}): ProvenIdentity => ({
  issuer: "https://issuer.example",
  subject: `subject-of-${name}`,
  email: `${name}@example.org`,
  displayName: name,
  avatarUrl: undefined,
  hostedDomain: undefined,
  ...over,
});
const refusal = async (attempt: Promise<unknown>): Promise<string> => {
  try {
    await attempt;
    return "let in";
  } catch (err) {
    if (err instanceof HubError) return `${err.status} ${err.code}`;
    throw err;
  }
};
const invite = async (over: { maxUses?: number; lifetimeMs?: number } = {}) => {
  const { code, hash, prefix } = newInviteCode(systemRandom);
  const row = await insertInvite(store.db, {
    id: systemRandom.uuid(),
    codeHash: hash,
    codePrefix: prefix,
    maxUses: 1,
    lifetimeMs: 60_000,
    createdBy: systemRandom.uuid(),
    note: "",
    ...over,
  });
  return { code, id: row.id };
};

test("nobody gets somebody else's name from a provider that lets people choose: agents are told names", async () => {
  await people().signIn(person("boss", { displayName: "The Boss" }));
  const eve = person("eve", { displayName: "the BOSS" });
  expect(await people().signIn(eve)).toMatchObject({ email: "eve@example.org", display_name: "" });
  expect((await people().signIn({ ...eve, displayName: "The boss" })).display_name).toBe("");
  expect((await people().signIn({ ...eve, displayName: "Eve" })).display_name).toBe("Eve");
});

test("weak point 9: forty first sign-ins of one person at once make one account, and all get in", async () => {
  const users = await Promise.all(Array.from({ length: 40 }, () => people().signIn(person("ann"))));
  expect(new Set(users.map((u) => u.id)).size).toBe(1);
  expect(users[0]).toMatchObject({ email: "ann@example.org", role: "member", status: "active" });
});

test("weak point 3: an account is its issuer's subject: an address given to somebody else opens nothing", async () => {
  await people().signIn(person("bea"));
  const elsewhere = person("bea", { issuer: "https://other.example", subject: "b" });
  for (const other of [person("bea", { subject: "somebody-else" }), elsewhere])
    expect(await refusal(people().signIn(other))).toBe("403 identity_not_linked");
  expect(await store.query("select role from users where email = 'bea@example.org'")).toHaveLength(1);
});

test("weak point 3: an address that an account had once lets nobody into it, whichever issuer has given it to them", async () => {
  const first = await people().signIn(person("mia"));
  const renamed = person("mia", { email: "mia.new@example.org" });
  expect(await people().signIn(renamed)).toMatchObject({ id: first.id, email: "mia.new@example.org" });
  const successor = person("mia", { issuer: "https://other.example", subject: "m" });
  const own = await people().signIn(successor);
  expect([own.id === first.id, own.email]).toEqual([false, "mia@example.org"]);
  // Back again, the address is somebody else's: the account keeps the one that it has.
  expect(await people().signIn(person("mia"))).toMatchObject({ id: first.id, email: "mia.new@example.org" });
});

test("weak point 4: every sign-in refuses who is suspended and promotes who is an admin by configuration", async () => {
  const eve = await people().signIn(person("eve"));
  await store.query("update users set status = 'suspended' where id = $1", [eve.id]);
  expect(await refusal(people().signIn(person("eve")))).toBe("403 user_suspended");
  const root = await people({ admins: new Set() }).signIn(person("root"));
  expect(root.role).toBe("member");
  expect((await people().signIn(person("root"))).role).toBe("admin");
  expect((await people({ admins: new Set() }).signIn(person("root"))).role).toBe("admin");
});

test("weak point 5: an invite travels through the first sign-in, is used once, and lets in for good", async () => {
  const gate = people({ mode: "invite_only" });
  expect(await refusal(gate.signIn(person("fay")))).toBe("403 unauthorized_domain");
  const { code, id } = await invite();
  const fay = await gate.signIn(person("fay"), { inviteCode: code });
  expect(fay.email).toBe("fay@example.org");
  expect(await gate.signIn(person("fay"))).toMatchObject({ id: fay.id });
  expect(await refusal(gate.signIn(person("gil"), { inviteCode: code }))).toBe("403 unauthorized_domain");
  expect(await store.query("select use_count from invites where id = $1", [id])).toEqual([{ use_count: 1 }]);
  expect(await store.query("select * from users where email = 'gil@example.org'")).toEqual([]);
});

test("an invite is not used up by who did not need it, and counts for nothing where only the list does", async () => {
  const { code, id } = await invite();
  const hal = await people().signIn(person("hal"), { inviteCode: code });
  await insertAllowed(store.db, { id: systemRandom.uuid(), email: hal.email, note: "", addedBy: null });
  await people({ mode: "invite_only" }).signIn(person("hal"), { inviteCode: code });
  expect(await refusal(people({ mode: "allow_list" }).signIn(person("ida"), { inviteCode: code }))).toBe(
    "403 unauthorized_domain",
  );
  await people({ mode: "allow_list" }).signIn(person("hal"));
  expect(await store.query("select use_count from invites where id = $1", [id])).toEqual([{ use_count: 0 }]);
  // Nor does it put anybody back on the list who is still signed in.
  const held = await people({ mode: "invite_only" }).signIn(person("hal"));
  const later = await invite({ maxUses: 9 });
  expect(await refusal(people({ mode: "allow_list" }).redeem(held, later.code))).toBe("403 unauthorized_domain");
  expect(await store.query("select use_count from invites where id = $1", [later.id])).toEqual([{ use_count: 0 }]);
});

test("of ten people with an invite for three, three come in; a revoked or expired one lets in nobody", async () => {
  const gate = people({ mode: "invite_only" });
  const { code } = await invite({ maxUses: 3 });
  const outcomes = await Promise.all(
    Array.from({ length: 10 }, (_, i) => refusal(gate.signIn(person(`guest${i}`), { inviteCode: code }))),
  );
  expect(outcomes.filter((o) => o === "let in")).toHaveLength(3);
  const revoked = await invite({ maxUses: 0 });
  await store.query("update invites set revoked = true where id = $1", [revoked.id]);
  expect(await refusal(gate.signIn(person("joe"), { inviteCode: revoked.code }))).toBe("403 unauthorized_domain");
  const over = await invite({ lifetimeMs: -1 });
  expect(await refusal(gate.signIn(person("joe"), { inviteCode: over.code }))).toBe("403 unauthorized_domain");
  expect(await refusal(gate.signIn(person("joe"), { inviteCode: "scion_inv_made-up" }))).toBe(
    "403 unauthorized_domain",
  );
});

test("suspension and demotion void what a user holds, whichever statement does it; promotion does not", async () => {
  const { id } = await people().signIn(person("kim"));
  const version = async () => (await store.query("select token_version as v from users where id = $1", [id]))[0]?.v;
  const set = (what: string) => store.query(`update users set ${what} where id = $1`, [id]);
  await set("role = 'admin'");
  expect(await version()).toBe(1);
  await set("role = 'member'");
  expect(await version()).toBe(2);
  await set("status = 'suspended'");
  expect(await version()).toBe(3);
  await set("status = 'active'");
  expect(await version()).toBe(3);
});

test.each([
  ["admins come in from anywhere", {}, "root@example.org", undefined, { allow: true, admin: true }],
  ["a listed domain", { emailDomains: ["example.org"] }, "a@example.org", undefined, { allow: true, admin: false }],
  ["not its subdomains", { emailDomains: ["example.org"] }, "a@x.example.org", undefined, { allow: false }],
  ["subdomains by wildcard", { emailDomains: ["*.example.org"] }, "a@x.example.org", undefined, { allow: true }],
  [
    "not the domain itself by wildcard",
    { emailDomains: ["*.example.org"] },
    "a@example.org",
    undefined,
    { allow: false },
  ],
  ["not what merely ends alike", { emailDomains: ["*.example.org"] }, "a@xexample.org", undefined, { allow: false }],
  ["a hosted domain", { hostedDomains: ["corp.example"] }, "a@b.example", "Corp.Example", { allow: true }],
  ["another hosted domain", { hostedDomains: ["corp.example"] }, "a@corp.example", "x.example", { allow: false }],
  ["no hosted domain", { hostedDomains: ["corp.example"] }, "a@corp.example", undefined, { allow: false }],
  [
    "an invite where they count",
    { mode: "invite_only" as const },
    "a@b.example",
    undefined,
    { allow: "listed", invites: true },
  ],
  ["only the list", { mode: "allow_list" as const }, "a@b.example", undefined, { allow: "listed", invites: false }],
])("who may sign in: %s", (_, rules, email, hostedDomain, expected) => {
  expect(admission({ ...OPEN, ...rules }, { email, hostedDomain })).toMatchObject(expected);
});

test.each([
  [" Ann@Example.ORG ", "ann@example.org"],
  ["ann@example.org, eve@example.org", undefined],
  ["ann@exampłe.org", undefined],
  // Their lower case, or what is left of them when trimmed, is somebody else's address.
  ["\u212Aim@example.org", undefined],
  ["kim@\u212Aent.example", undefined],
  ["\u00a0kim@example.org\ufeff", undefined],
  ["@example.org", undefined],
  ["a b@example.org", undefined],
  [`${"a".repeat(250)}@x.org`, undefined],
  [7, undefined],
  // Read as fast as any.
  [`ann@example.org${" ".repeat(1_000_000)}x`, undefined],
])("the address %#", (text, expected) => {
  expect(parseEmail(text)).toBe(expected);
});
