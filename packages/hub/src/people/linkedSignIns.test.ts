import { afterAll, beforeAll, beforeEach, expect, test } from "@jest/globals";
import { HubError, type Uuid } from "@rootstock/protocol";
import { systemRandom } from "@rootstock/service";
import { type AuditEvent, insertAllowed, lockUser, transaction } from "@rootstock/store";
import { createTestStore, eventually, type TestStore, testBase } from "@rootstock/testkit";
import { type AdmissionRules, GOOGLE_ISSUER, IAP_ISSUER, LinkedSignIns, People, type ProvenIdentity } from "./index.ts";

/** What opens an account: its own sign-ins, and nothing that merely has its address. */

const base = testBase();
const OPEN: AdmissionRules = { mode: "open", admins: new Set(), emailDomains: [], hostedDomains: [] };
const DEVELOPER = systemRandom.uuid();
const [WORK, OTHER, THIRD] = ["https://work.example", "https://other.example", "https://third.example"];
let store: TestStore;
let denied: Omit<AuditEvent, "success">[] = [];

beforeAll(async () => {
  store = await createTestStore({ poolSize: 12 });
});
afterAll(() => store.drop());
beforeEach(async () => {
  denied = [];
  await store.query("delete from users");
});

const options = (rules: Partial<AdmissionRules>) => ({
  db: store.db,
  rules: { ...OPEN, ...rules },
  developer: DEVELOPER,
  changed: () => {},
  denied: async (event: Omit<AuditEvent, "success">) => void denied.push(event),
});
const people = (rules: Partial<AdmissionRules> = {}, byEmail: readonly string[] = []) =>
  new People(base, { ...options(rules), byEmail: new Set(byEmail) });
const signIns = (rules: Partial<AdmissionRules> = {}, issuers?: readonly string[]) =>
  new LinkedSignIns(base, { ...options(rules), ...(issuers && { issuers: new Set(issuers) }) });

const ann = (issuer: string, over: Partial<ProvenIdentity> = {}): ProvenIdentity => ({
  issuer,
  subject: "1",
  email: "ann@example.org",
  displayName: "Ann",
  avatarUrl: undefined,
  hostedDomain: undefined,
  ...over,
});
const outcome = async (attempt: Promise<unknown>): Promise<string> => {
  try {
    await attempt;
    return "done";
  } catch (err) {
    if (err instanceof HubError) return `${err.status} ${err.code}`;
    throw err;
  }
};
/** Somebody with an account that nothing opens yet: moved from elsewhere. */
const moved = async (email: string, over: { id?: Uuid; status?: string; role?: string } = {}): Promise<Uuid> => {
  const { id = systemRandom.uuid(), status = "active", role = "member" } = over;
  await store.query("insert into users (id, email, role, status) values ($1, $2, $3, $4)", [id, email, role, status]);
  return id;
};
const identities = (userId: Uuid) =>
  store.query("select issuer, subject from user_identities where user_id = $1 order by issuer", [userId]);
const insertRow = (userId: Uuid, issuer: string, subject = "1", email = "ann@example.org") =>
  store.query("insert into user_identities (issuer, subject, user_id, email) values ($1, $2, $3, $4)", [
    issuer,
    subject,
    userId,
    email,
  ]);

test("weak point 3: a second issuer with the same verified address opens nothing, makes nothing, and is told of", async () => {
  await people().signIn(ann(WORK));
  expect(await outcome(people().signIn(ann(OTHER)))).toBe("403 identity_not_linked");
  expect(denied).toMatchObject([
    {
      action: "login_denied",
      targetName: "ann@example.org",
      details: { issuer: OTHER, subject: "1", code: "identity_not_linked" },
    },
  ]);
  // Not by whom the account is opened, nor anything else of it.
  expect(denied[0]?.reason).not.toContain("work");
  expect(await store.query("select email from users")).toEqual([{ email: "ann@example.org" }]);
  expect(await store.query("select issuer from user_identities")).toEqual([{ issuer: WORK }]);
});

test("an account that nothing opens yet is taken by the first issuer that vouches for its address, and by no other", async () => {
  const id = await moved("ann@example.org", { role: "admin" });
  expect(await people().signIn(ann(WORK))).toMatchObject({ id, role: "admin" });
  expect(await outcome(people().signIn(ann(OTHER)))).toBe("403 identity_not_linked");
  await moved("bob@example.org", { status: "suspended" });
  expect(await outcome(people().signIn(ann(WORK, { subject: "2", email: "bob@example.org" })))).toBe(
    "403 user_suspended",
  );
});

test("how an account stands is told to nobody whom it is not opened by", async () => {
  const { id } = await people().signIn(ann(WORK));
  await store.query("update users set status = 'suspended' where id = $1", [id]);
  expect(await outcome(people().signIn(ann(OTHER)))).toBe("403 identity_not_linked");
  expect(await outcome(people().signIn(ann(WORK)))).toBe("403 user_suspended");
  expect(await outcome(people({ mode: "allow_list" }).signIn(ann(OTHER)))).toBe("403 unauthorized_domain");
});

test("the development user's account is opened by no issuer, and nothing is linked to it", async () => {
  await moved("dev@localhost", { id: DEVELOPER, role: "admin" });
  expect(await outcome(people().signIn(ann(WORK, { email: "dev@localhost" })))).toBe("403 identity_not_linked");
  expect(await outcome(signIns().link(DEVELOPER, ann(WORK)))).toBe("409 conflict");
  await insertRow(DEVELOPER, WORK, "from before", "dev@localhost");
  const before = ann(WORK, { subject: "from before", email: "dev@localhost" });
  expect(await outcome(people().signIn(before))).toBe("403 identity_not_linked");
});

test("weak point 9: of two issuers at once with one address one makes, or takes, the account and the other is refused", async () => {
  const issuers = Array.from({ length: 10 }, (_, i) => `https://issuer${i}.example`);
  const ends = async (email: string) =>
    (
      await Promise.all(issuers.map((issuer) => outcome(people().signIn(ann(issuer, { subject: email, email })))))
    ).sort();
  const one = [...Array.from({ length: 9 }, () => "403 identity_not_linked"), "done"];
  expect(await ends("new@example.org")).toEqual(one);
  const id = await moved("moved@example.org");
  expect(await ends("moved@example.org")).toEqual(one);
  expect(await identities(id)).toHaveLength(1);
  expect(await store.query("select email from users order by email")).toEqual([
    { email: "moved@example.org" },
    { email: "new@example.org" },
  ]);
});

test("issuers that the operator has named together open each other's accounts by address, as long as the first one gives it", async () => {
  const together = people({}, [WORK, OTHER]);
  const { id } = await together.signIn(ann(WORK));
  expect(await outcome(together.signIn(ann(THIRD)))).toBe("403 identity_not_linked");
  expect(await outcome(people({}, [OTHER]).signIn(ann(OTHER)))).toBe("403 identity_not_linked");
  expect(await outcome(people({}, [WORK]).signIn(ann(OTHER)))).toBe("403 identity_not_linked");
  expect((await together.signIn(ann(OTHER))).id).toBe(id);
  // One of each issuer: another subject there is somebody else.
  expect(await outcome(together.signIn(ann(OTHER, { subject: "2" })))).toBe("403 identity_not_linked");
  // Somebody who has kept the account's address, though its issuer has given them another one by now.
  const bob = { subject: "2", email: "bob@example.org" };
  const bobs = await together.signIn(ann(WORK, bob));
  await store.query("update user_identities set email = 'bob.new@example.org' where user_id = $1", [bobs.id]);
  expect(await outcome(together.signIn(ann(OTHER, { ...bob, subject: "3" })))).toBe("403 identity_not_linked");
});

test("Google's accounts are the same people by OAuth and through Identity-Aware Proxy, in rows from before too", async () => {
  const id = await moved("ann@example.org");
  await insertRow(id, IAP_ISSUER);
  expect((await people().signIn(ann(GOOGLE_ISSUER, { email: "ann.new@example.org" }))).id).toBe(id);
  expect(await identities(id)).toEqual([{ issuer: IAP_ISSUER, subject: "1" }]);
  expect(await signIns().list(id)).toMatchObject([
    { issuer: GOOGLE_ISSUER, subject: "1", email: "ann.new@example.org" },
  ]);
  // A replica of the version before writes the other name beside it: still one sign-in.
  await insertRow(id, GOOGLE_ISSUER);
  const [only, ...more] = await signIns().list(id);
  expect([only?.issuer, more]).toEqual([GOOGLE_ISSUER, []]);
  expect(await outcome(signIns().unlink(id, only?.id ?? "", { evenLast: false }))).toBe("409 conflict");
  await signIns().link(id, ann(OTHER));
  await signIns().unlink(id, only?.id ?? "", { evenLast: false });
  expect(await identities(id)).toEqual([{ issuer: OTHER, subject: "1" }]);
  // Another directory's people behind the same proxy are other people.
  const external = { subject: "securetoken.google.com/p/t:1", email: "bob@example.org" };
  const bob = await people().signIn(ann(IAP_ISSUER, external));
  expect(await identities(bob.id)).toEqual([{ issuer: IAP_ISSUER, subject: external.subject }]);
});

test("an account's address follows its own issuer, unless another sign-in still has it or somebody else has the new one", async () => {
  const { id } = await people().signIn(ann(WORK));
  await signIns().link(id, ann(OTHER, { email: "ann@home.example" }));
  const emailAfter = async (identity: ProvenIdentity) => (await people().signIn(identity)).email;
  expect(await emailAfter(ann(OTHER, { email: "ann@house.example" }))).toBe("ann@example.org");
  expect(await emailAfter(ann(WORK, { email: "ann.b@example.org" }))).toBe("ann.b@example.org");
  const bob = await people().signIn(ann(WORK, { subject: "2", email: "bob@example.org" }));
  expect(await people().signIn(ann(WORK, { email: "bob@example.org" }))).toMatchObject({
    id,
    email: "ann.b@example.org",
  });
  expect((await people().signIn(ann(WORK, { subject: "2", email: "bob@example.org" }))).id).toBe(bob.id);
  expect(
    await store.query("select details from audit_log where action = 'user_email_changed' and target_id = $1", [id]),
  ).toEqual([{ details: { email: { from: "ann@example.org", to: "ann.b@example.org" } } }]);
});

test("weak point 4: whom an issuer gives an administrator's address gets neither the account nor the rights, nor past the rules", async () => {
  const rules = { admins: new Set(["root@example.org"]), emailDomains: ["example.net"] };
  const root = await people(rules).signIn(ann(WORK, { email: "root@example.org" }));
  expect(root.role).toBe("admin");
  expect(await outcome(people(rules).signIn(ann(OTHER, { email: "root@example.org" })))).toBe(
    "403 identity_not_linked",
  );
  // With an account of their own they are not let past the rules by it, and without rules not promoted.
  const mallory = await people().signIn(ann(OTHER, { email: "mallory@example.net" }));
  const renamed = ann(OTHER, { email: "root@example.org" });
  expect(await outcome(people(rules).signIn(renamed))).toBe("403 unauthorized_domain");
  expect(await people({ admins: rules.admins }).signIn(renamed)).toMatchObject({
    id: mallory.id,
    role: "member",
    email: "mallory@example.net",
  });
});

test("a linked sign-in opens the account whatever its address, and no account of its own is made for it", async () => {
  const { id } = await people().signIn(ann(WORK));
  const home = ann(OTHER, { subject: "home", email: "ann@home.example" });
  await signIns().link(id, home);
  await signIns().link(id, home);
  expect(await people().signIn(home)).toMatchObject({ id, email: "ann@example.org" });
  expect(await identities(id)).toEqual([
    { issuer: OTHER, subject: "home" },
    { issuer: WORK, subject: "1" },
  ]);
  expect(await store.query("select 1 from users")).toHaveLength(1);
});

test("nobody links what opens another account, a second one of an issuer, or what may not come in by itself", async () => {
  const { id } = await people().signIn(ann(WORK));
  const bob = ann(OTHER, { subject: "2", email: "bob@example.org" });
  const { id: bobs } = await people().signIn(bob);
  expect(await outcome(signIns().link(id, bob))).toBe("409 identity_taken");
  expect(await outcome(signIns().link(id, ann(WORK, { subject: "3" })))).toBe("409 conflict");
  const domains = signIns({ emailDomains: ["example.org"] });
  expect(await outcome(domains.link(id, ann(THIRD, { email: "ann@home.example" })))).toBe("403 unauthorized_domain");
  const listed = signIns({ mode: "allow_list" });
  expect(await outcome(listed.link(id, ann(THIRD)))).toBe("403 unauthorized_domain");
  expect(denied.map(({ action, details }) => [action, details?.code])).toEqual([
    ["link_denied", "identity_taken"],
    ["link_denied", "conflict"],
    ["link_denied", "unauthorized_domain"],
    ["link_denied", "unauthorized_domain"],
  ]);
  await insertAllowed(store.db, { id: systemRandom.uuid(), email: "ann@example.org", note: "", addedBy: null });
  // The list has the account's address: whatever opens it comes in.
  const home = ann(THIRD, { email: "ann@home.example" });
  await listed.link(id, home);
  expect((await people({ mode: "allow_list" }).signIn(home)).id).toBe(id);
  await store.query("delete from allow_list");
  expect(await outcome(people({ mode: "allow_list" }).signIn(home))).toBe("403 unauthorized_domain");
  await store.query("update users set status = 'suspended' where id = $1", [bobs]);
  expect(await outcome(signIns().link(bobs, ann(THIRD, { subject: "4" })))).toBe("403 user_suspended");
  expect(await outcome(signIns().link(systemRandom.uuid(), ann(THIRD, { subject: "4" })))).toBe("401 unauthorized");
});

test("one sign-in that many accounts link at once, while it signs in by itself, opens one of them alone", async () => {
  const ids = await Promise.all(Array.from({ length: 6 }, (_, i) => moved(`user${i}@example.org`)));
  const wanted = ann(OTHER, { subject: "wanted", email: "wanted@example.org" });
  const ends = await Promise.all([
    ...ids.map((id) => outcome(signIns().link(id, wanted))),
    outcome(people().signIn(wanted)),
  ]);
  expect(await store.query("select 1 from user_identities where subject = 'wanted'")).toHaveLength(1);
  // Signing in is always possible: whoever has it by now is who signs in.
  expect(ends.at(-1)).toBe("done");
  expect(ends.slice(0, -1).every((end) => end === "done" || end === "409 identity_taken")).toBe(true);
  expect(await store.query("select 1 from users where id <> all($1) and email <> 'wanted@example.org'", [ids])).toEqual(
    [],
  );
});

test("what is taken from an account while somebody signs in by it lets them in no more", async () => {
  const { id } = await people().signIn(ann(WORK));
  await signIns().link(id, ann(OTHER, { subject: "home" }));
  let waiting: Promise<string> | undefined;
  await transaction(store.db, async (tx) => {
    await lockUser(tx, id);
    waiting = outcome(people().signIn(ann(OTHER, { subject: "home" })));
    await eventually(async () => {
      const blocked = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
      return (await store.query(blocked)).length > 0;
    });
    await tx.deleteFrom("user_identities").where("issuer", "=", OTHER).execute();
  });
  expect(await waiting).toBe("403 identity_not_linked");
  expect(await identities(id)).toEqual([{ issuer: WORK, subject: "1" }]);
});

test("unlinking voids what signing in has given, and never takes the last one but by an administrator", async () => {
  const first = await people().signIn(ann(WORK));
  const { id } = first;
  await signIns().link(id, ann(OTHER));
  const [work, other] = await signIns().list(id);
  const both = [work?.id ?? "", other?.id ?? ""];
  const ends = await Promise.all(both.map((one) => outcome(signIns().unlink(id, one, { evenLast: false }))));
  expect(ends.sort()).toEqual(["409 conflict", "done"]);
  const [left] = await signIns().list(id);
  expect((await signIns().list(id)).length).toBe(1);
  expect(
    await store.query("select token_version - $2 as by from users where id = $1", [id, first.token_version]),
  ).toEqual([{ by: 1 }]);
  const gone = ann(left?.issuer === WORK ? OTHER : WORK);
  expect(await outcome(people().signIn(gone))).toBe("403 identity_not_linked");
  const bob = await people().signIn(ann(WORK, { subject: "2", email: "bob@example.org" }));
  expect(await outcome(signIns().unlink(bob.id, left?.id ?? "", { evenLast: true }))).toBe("404 not_found");
  await signIns().unlink(id, left?.id ?? "", { evenLast: true });
  // Who is vouched for with its address next has the account: so does an administrator help.
  expect((await people().signIn(ann(THIRD))).id).toBe(id);
});

test("nobody unlinks the last sign-in by which they could come back, whatever else is linked", async () => {
  const { id } = await people().signIn(ann(WORK));
  await signIns().link(id, ann(OTHER));
  await signIns().link(id, ann(THIRD));
  const [work, other, third] = (await signIns().list(id)).map((row) => row.id);
  const own = { evenLast: false };
  // Of the three providers one is configured by now, and a tenant of another's host.
  const now = signIns({}, [OTHER, `${THIRD}/tenant`]);
  await now.unlink(id, third ?? "", own);
  expect(await outcome(now.unlink(id, other ?? "", own))).toBe("409 conflict");
  // Nor what a proxy says with every call, which would all be refused.
  const inUse = ann(WORK);
  expect(await outcome(now.unlink(id, work ?? "", { ...own, inUse }))).toBe("409 conflict");
  await now.unlink(id, work ?? "", { ...own, inUse: ann(OTHER) });
  expect(await outcome(now.unlink(id, other ?? "", own))).toBe("409 conflict");
  expect(await identities(id)).toEqual([{ issuer: OTHER, subject: "1" }]);
});

test("what opens an account and what does not any more is in the audit log, and goes with the account unmentioned", async () => {
  const { id } = await people().signIn(ann(WORK));
  await signIns().link(id, ann(OTHER));
  const [work] = await signIns().list(id);
  await signIns().unlink(id, work?.id ?? "", { evenLast: false });
  await store.query("delete from users where id = $1", [id]);
  expect(
    await store.query(
      "select action, details ->> 'issuer' as issuer from audit_log where target_id = $1 and action like 'user_identity%' order by id",
      [id],
    ),
  ).toEqual([
    { action: "user_identity_linked", issuer: WORK },
    { action: "user_identity_linked", issuer: OTHER },
    { action: "user_identity_unlinked", issuer: WORK },
  ]);
});
