import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { systemClock, systemRandom } from "@rootstock/service";
import { testLog } from "@rootstock/testkit";
import { NOBODY } from "../auth/index.ts";
import { type AdmissionRules, People } from "../people/index.ts";
import { allowListRoutes } from "./allowList.ts";
import { inviteRoutes, parseGoDuration } from "./invites.ts";
import { ADMIN, agentPrincipal, at, listAt, member, startTestHub, type TestHub, textAt } from "./routes.testing.ts";

const base = { clock: systemClock, random: systemRandom, log: testLog() };
const INVITES = "/api/v1/admin/invites";
const ALLOWED = "/api/v1/admin/allow-list";
const rules: AdmissionRules = {
  mode: "invite_only",
  admins: new Set(),
  emailDomains: ["example.org"],
  hostedDomains: [],
};
const BOUNDARY = "-".repeat(30);
let hub: TestHub;

beforeAll(async () => {
  hub = await startTestHub((db) => {
    const people = new People(base, { db, rules, changed: () => {}, denied: async () => {} });
    const deps = { db, random: systemRandom, changed: () => {} };
    return [...allowListRoutes(deps), ...inviteRoutes({ ...deps, people })];
  });
});
afterAll(() => hub.stop());

const admin = () => hub.as(ADMIN);
const makeInvite = async (body: object) => (await admin().send("POST", INVITES, body)).body;

test("an invite's code is shown once; what is kept of it does not tell it", async () => {
  const made = await admin().send("POST", INVITES, { expiresIn: "1h", maxUses: 2, note: "for the team" });
  expect(made.status).toBe(201);
  const code = textAt(made.body, "code");
  expect(code).toMatch(/^scion_inv_[A-Za-z0-9_-]{32}$/);
  expect(textAt(made.body, "inviteUrl")).toBe(`http://localhost/invite?code=${code}`);
  const invite = at(made.body, "invite");
  expect(invite).toEqual({
    id: expect.any(String),
    codePrefix: code.slice(0, 18),
    maxUses: 2,
    useCount: 0,
    expiresAt: expect.any(String),
    revoked: false,
    createdBy: ADMIN.id,
    note: "for the team",
    created: expect.any(String),
  });
  expect((await admin().get(`${INVITES}/${textAt(invite, "id")}`)).body).toEqual(invite);
  const [row] = await hub.test.query("select row_to_json(i)::text as text from invites i where id = $1", [
    textAt(invite, "id"),
  ]);
  expect(String(row?.text)).not.toContain(code.slice(18));
});

test("redeeming lists the address, counts, and ends with the last use", async () => {
  const code = textAt(await makeInvite({ expiresIn: "30m", maxUses: 1 }), "code");
  const ann = member("ann-of-invites");
  const redeemed = await hub.as(ann).send("POST", "/api/v1/auth/invite/redeem", { code });
  expect(redeemed.body).toEqual({ message: "Invite redeemed", user: { id: ann.id, email: ann.email } });
  const again = await hub.as(member("bob")).send("POST", "/api/v1/auth/invite/redeem", { code });
  expect(again.status).toBe(404);
  const listed = listAt((await admin().get(ALLOWED)).body, "items");
  expect(listed).toContainEqual(
    expect.objectContaining({ email: ann.email, inviteCodePrefix: code.slice(0, 18), inviteUseCount: 1 }),
  );
  expect((await admin().get(`${INVITES}/stats`)).body).toMatchObject({ totalRedemptions: 1 });
  const outside = { ...member("eve"), email: "eve@elsewhere.example" };
  const refused = await hub.as(outside).send("POST", "/api/v1/auth/invite/redeem", { code });
  expect(at(refused.body, "error", "code")).toBe("unauthorized_domain");
  expect(
    (await hub.as(agentPrincipal(ann.id, ann.id)).send("POST", "/api/v1/auth/invite/redeem", { code })).status,
  ).toBe(403);
});

test("revoked and deleted invites let in nobody", async () => {
  const revoked = await makeInvite({ expiresIn: "1h", maxUses: 0 });
  const path = `${INVITES}/${textAt(revoked, "invite", "id")}`;
  expect((await admin().send("POST", `${path}/revoke`)).body).toEqual({ status: "revoked" });
  const redeem = () => hub.as(member("cat")).send("POST", "/api/v1/auth/invite/redeem", { code: at(revoked, "code") });
  expect((await redeem()).status).toBe(404);
  expect((await admin().send("DELETE", path)).body).toEqual({ status: "deleted" });
  expect((await admin().send("DELETE", path)).status).toBe(404);
  expect((await admin().send("DELETE", `${INVITES}/no-uuid`)).status).toBe(404);
});

test("the list of addresses: added once, imported, paged, removed", async () => {
  const added = await admin().send("POST", ALLOWED, { email: " Dan@Example.org ", note: "n" });
  expect(added.status).toBe(201);
  expect(added.body).toEqual({
    id: expect.any(String),
    email: "dan@example.org",
    note: "n",
    addedBy: ADMIN.id,
    created: expect.any(String),
  });
  expect((await admin().send("POST", ALLOWED, { email: "dan@example.org" })).status).toBe(409);
  expect((await admin().send("POST", ALLOWED, { email: "no address" })).status).toBe(400);
  const emails = Array.from({ length: 60 }, (_, i) => ({ email: `p${i}@example.org` }));
  const imported = await admin().send("POST", `${ALLOWED}/import`, {
    emails: [...emails, { email: "dan@example.org" }, { email: "bad" }],
  });
  expect(imported.body).toEqual({ added: 60, skipped: 1, total: 61 });
  const first = await admin().get(ALLOWED);
  const next = await admin().get(`${ALLOWED}?cursor=${textAt(first.body, "nextCursor")}`);
  const seen = [first, next].flatMap((p) => listAt(p.body, "items").map((e) => textAt(e, "email")));
  expect(seen).toHaveLength(new Set(seen).size);
  expect(seen.length).toBe(at(first.body, "totalCount"));
  expect((await admin().send("DELETE", `${ALLOWED}/dan%40example.org`)).body).toEqual({ status: "removed" });
  expect((await admin().send("DELETE", `${ALLOWED}/dan%40example.org`)).status).toBe(404);
});

test("a file of addresses is imported: header skipped, quotes understood, bad rows dropped", async () => {
  const csv = 'email,note\r\nzoe@example.org,"a ""note"", quoted"\r\nbroken\r\n\r\nyan@example.org\r\n';
  const body = `--${BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="l.csv"\r\nContent-Type: text/csv\r\n\r\n${csv}\r\n--${BOUNDARY}--\r\n`;
  const sent = (text: string) =>
    admin().send("POST", `${ALLOWED}/import`, text, { "content-type": `multipart/form-data; boundary=${BOUNDARY}` });
  expect((await sent(body)).body).toEqual({ added: 2, skipped: 0, total: 2 });
  expect(await hub.test.query("select note from allow_list where email = 'zoe@example.org'")).toEqual([
    { note: 'a "note", quoted' },
  ]);
  expect((await sent(`--${BOUNDARY}--`)).status).toBe(400);
});

test("none of it is for anybody but admins", async () => {
  for (const path of [ALLOWED, `${ALLOWED}/domains`, INVITES, `${INVITES}/stats`]) {
    expect((await hub.as(member("mia")).get(path)).status).toBe(403);
    expect((await hub.as(NOBODY).get(path)).status).toBe(401);
  }
});

test.each([
  ["24h", 86_400_000],
  ["1h30m", 5_400_000],
  ["1.5h", 5_400_000],
  ["90s", 90_000],
  ["-1h", undefined],
  ["1d", undefined],
  ["", undefined],
])("the duration %s", (text, ms) => {
  expect(parseGoDuration(text)).toBe(ms);
});

test.each(["0h", "121h", "soon", ""])("an invite for %j is refused", async (expiresIn) => {
  expect((await admin().send("POST", INVITES, { expiresIn, maxUses: 1 })).status).toBe(400);
});
