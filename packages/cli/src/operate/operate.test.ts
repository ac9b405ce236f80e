import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "@jest/globals";
import { api, eventually, heard, type Replica, Scene, TEST_TOKEN, testLogin } from "@rootstock/testkit";
import { EXIT } from "../exitCodes.ts";
import { run } from "../run.ts";

/** The commands of those who run a hub, at a hub. */

let scene: Scene;
let hub: Replica;
let root: string;
beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "rootstock-operate-"));
  scene = await Scene.create();
  hub = await scene.replica({ ROOTSTOCK_TEST_LOGIN: "1" });
});
afterAll(async () => {
  await scene.end();
  rmSync(root, { recursive: true, force: true });
});

let ann: string;
let annsToken: string;
let people = 0;
beforeEach(async () => {
  people += 1;
  ann = `ann${people}@example.org`;
  annsToken = (await testLogin(hub, { email: ann, displayName: "Ann" })).text("accessToken");
});

const rootstockAs = async (token: string, ...args: string[]) => {
  const [out, err]: [string[], string[]] = [[], []];
  const env = { ROOTSTOCK_HUB_URL: hub.url, SCION_DEV_TOKEN: token, ROOTSTOCK_DATA: join(root, "none") };
  const code = await run(args, env, { out: (line) => out.push(line), err: heard(err) });
  return { code, out: out.join("\n"), err: err.join("\n") };
};
const rootstock = (...args: string[]) => rootstockAs(TEST_TOKEN, ...args);
/** What a command says that has to succeed. */
const said = async (...args: string[]): Promise<string> => {
  const { code, out, err } = await rootstock(...args);
  expect([code, err]).toEqual([EXIT.ok, ""]);
  return out;
};
const told = async (...args: string[]): Promise<unknown> => JSON.parse(await said(...args, "--json"));
const meIs = async (): Promise<number> =>
  (await api(hub, "GET", "/api/v1/auth/me", undefined, { token: annsToken })).status;

test("people are listed, shown, given roles, suspended, let in again, signed out and deleted", async () => {
  expect((await said("users", "list", "--search", ann)).split("\n")).toEqual([
    expect.stringMatching(/^EMAIL +NAME +ROLE +STATUS +LAST SEEN +ID$/),
    expect.stringMatching(new RegExp(`^${ann} +Ann +member +active .*[0-9a-f-]{36}$`)),
  ]);
  expect(await said("users", "list", "--search", "nobody-like-this")).toBe("nobody");
  expect(await said("users", "show", ann.toUpperCase())).toMatch(/^role +member$/m);
  expect(await told("users", "show", ann)).toMatchObject({ email: ann, role: "member", status: "active" });
  expect(await said("users", "role", ann, "viewer")).toBe(`${ann}: viewer`);
  expect(await told("users", "suspend", ann)).toMatchObject({ email: ann, status: "suspended" });
  expect(await meIs()).toBe(401);
  expect(await said("users", "activate", ann)).toBe(`${ann}: active`);
  annsToken = (await testLogin(hub, { email: ann, role: "viewer" })).text("accessToken");
  expect(await meIs()).toBe(200);
  expect(await said("users", "sign-out", ann)).toBe(`${ann}: signed out everywhere`);
  expect(await meIs()).toBe(401);
  expect(await said("users", "sign-ins", ann)).toBe("none");
  await scene.database.query(
    "insert into user_identities (issuer, subject, user_id, email) select 'https://one.example', '1', id, email from users where email = $1",
    [ann],
  );
  const [linked] = Object(await told("users", "sign-ins", ann));
  expect(linked).toMatchObject({ issuer: "https://one.example", label: "one.example", email: ann });
  expect(await said("users", "unlink", ann, linked.id)).toBe(`${ann}: unlinked, and signed out everywhere`);
  expect(await said("users", "sign-ins", ann)).toBe("none");
  expect(await said("users", "delete", ann)).toBe(`${ann}: deleted`);
  expect(await rootstock("users", "show", ann)).toMatchObject({
    code: EXIT.failed,
    err: `rootstock: nobody here has the address ${ann}`,
  });
});

test("lists go on over pages, as far as is asked", async () => {
  await scene.database.query(
    "insert into users (id, email) select gen_random_uuid(), 'page' || n || '@example.org' from generate_series(1, 205) n",
  );
  expect(await told("users", "list", "--search", "page")).toHaveLength(205);
  expect(await told("users", "list", "--search", "page", "--limit", "3")).toHaveLength(3);
  expect(await rootstock("users", "list", "--limit", "0")).toMatchObject({ code: EXIT.usage });
});

test("an invite is made, and lets somebody in", async () => {
  const out = await said("users", "invite", "--expires", "2h", "--uses", "3", "--note", "for the tour");
  expect(out).toMatch(/^http:\/\/.*\/invite\?code=scion_inv_\S+\ngood until /);
  expect(await told("users", "invite")).toMatchObject({ invite: { maxUses: 1 } });
  expect(await rootstock("users", "invite", "--expires", "1000h")).toMatchObject({
    code: EXIT.failed,
    err: expect.stringContaining("at most 120h"),
  });
});

test("groups are made and filled, roles in them changed; the members of a project are one", async () => {
  const made = await said("groups", "create", `Team ${people}`);
  const slug = `team-${people}`;
  expect(made).toContain(slug);
  expect(await said("groups", "add", slug, ann, "--role", "admin")).toBe(`${slug}: ${ann} is admin`);
  expect(await said("groups", "role", slug, ann, "member")).toBe(`${slug}: ${ann} is member`);
  expect(await said("groups", "members", slug)).toMatch(/^Ann +user +member +\d{4}-.*$/m);
  expect(await said("groups", "remove", slug, ann)).toBe(`${slug}: ${ann} removed`);
  const token = annsToken;
  const project = await api(hub, "POST", "/api/v1/projects", { name: `P ${people}` }, { token });
  const members = `project:${project.text("slug")}:members`;
  expect(await said("groups", "list", "--of-project", project.text("id"))).toContain(members);
  // Ann owns it, alone.
  expect(await rootstockAs(token, "groups", "role", members, ann, "member")).toMatchObject({
    code: EXIT.failed,
    err: expect.stringContaining("last owner"),
  });
  expect(await said("groups", "add", members, slug, "--type", "group")).toBe(`${members}: ${slug} is member`);
  expect(await said("groups", "delete", slug)).toBe(`${slug}: deleted`);
  expect(await rootstock("groups", "show", slug)).toMatchObject({ err: `rootstock: there is no group "${slug}"` });
});

test("a policy is made of a file, bound, explained, and its doings are in the audit log", async () => {
  const file = join(root, "policy.json");
  const name = `makes policies ${people}`;
  const policy = { name, scopeType: "hub", resourceType: "group", actions: ["delete"], effect: "allow", priority: 7 };
  writeFileSync(file, JSON.stringify(policy));
  expect(await said("policies", "create", file)).toContain(name);
  const explain = ["access", "explain", ann, "delete", "group"];
  expect(await said(...explain)).toBe("denied: default deny");
  expect(await said("policies", "bind", name, "user", ann)).toBe(`${name}: holds for user ${ann}`);
  // Rights follow a change within moments, at whichever replica.
  await eventually(async () =>
    expect(await said(...explain)).toMatch(new RegExp(`^allowed: policy match \\(policy ${name}, [0-9a-f-]{36}\\)$`)),
  );
  expect(await told("policies", "show", name)).toMatchObject({
    priority: 7,
    boundTo: [expect.stringMatching(/^user /)],
  });
  expect(await said("policies", "list")).toMatch(new RegExp(`^${name} +allow +delete +group +hub +7 `, "m"));
  expect(await said("policies", "unbind", name, "user", ann)).toContain("no more");
  expect(await said("policies", "delete", name)).toBe(`${name}: deleted`);
  const log = await said("audit", "list", "--action", "policy_created", "--limit", "1");
  expect(log).toMatch(new RegExp(`^\\S+ +dev@localhost +policy_created +policy ${name} `, "m"));
  expect(await told("audit", "list", "--limit", "2")).toHaveLength(2);
  expect(await rootstock("audit", "list", "--since", "yesterday")).toMatchObject({
    code: EXIT.failed,
    err: expect.stringContaining("since"),
  });
});

test("what the hub refuses is told in its words, what was typed wrongly calls nobody", async () => {
  expect(await rootstockAs(annsToken, "users", "suspend", ann)).toMatchObject({
    code: EXIT.failed,
    err: expect.stringContaining("only admins change roles"),
  });
  for (const args of [
    ["users", "role", ann, "king"],
    ["users", "role", ann],
    ["users", "list", "--role", "king"],
    ["users", "show", ann, "extra"],
    ["policies", "create", join(root, "nothing.json")],
    ["groups", "add", "hub-members", ann, "--type", "thing"],
    ["users"],
  ])
    expect([args, (await rootstock(...args)).code]).toEqual([args, EXIT.usage]);
});

test("what people have written does not steer the terminal", async () => {
  await scene.database.query("update users set display_name = $1 where email = $2", ["A\u001b[2J\nB", ann]);
  expect(await said("users", "list", "--search", ann)).toContain("A [2J B");
});
