import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { systemClock, systemRandom } from "@rootstock/service";
import { Database, pruneAudit } from "@rootstock/store";
import {
  type ApiReply,
  api,
  eventually,
  type InProcessReplica,
  Scene,
  TEST_TOKEN,
  TerminalClient,
  testLog,
  testLogin,
} from "@rootstock/testkit";

import { WebSocket } from "ws";

/** The audit log: in the transaction of what it tells, for good, with who and from where, and without a secret. */

const ENV = { ROOTSTOCK_TEST_LOGIN: "1", ROOTSTOCK_TRUSTED_PROXIES: "127.0.0.0/8, ::1" };
const FROM = "203.0.113.7";
let scene: Scene;
let a: InProcessReplica;
let b: InProcessReplica;
beforeEach(async () => {
  scene = await Scene.create();
  [a, b] = [await scene.replica(ENV), await scene.replica(ENV)];
});
afterEach(() => scene.end());

interface Item {
  readonly action: string;
  readonly result: string;
  readonly reason?: string;
  readonly actor: { readonly kind: string; readonly id?: string; readonly email?: string };
  readonly credential?: { readonly kind: string; readonly id?: string };
  readonly from: { readonly address?: string; readonly userAgent?: string; readonly requestId?: string };
  readonly target: { readonly type: string; readonly id?: string; readonly name?: string };
  readonly projectId?: string;
  readonly details: Readonly<Record<string, unknown>>;
}

const call = (method: string, path: string, body?: unknown, token = TEST_TOKEN): Promise<ApiReply> =>
  api(a, method, path, body, {
    token,
    headers: { "x-forwarded-for": FROM, "user-agent": "audit-test/1", "x-request-id": `${method}-request` },
  });
/** Read at the other replica. */
const log = async (query = ""): Promise<readonly Item[]> => {
  const reply = await api(b, "GET", `/api/v1/admin/audit?limit=1000${query}`);
  expect(reply.status).toBe(200);
  return reply.list("items") as readonly Item[];
};
const one = async (action: string): Promise<Item> => {
  const [item, ...more] = await log(`&action=${action}`);
  if (!item) throw new Error(`no ${action} in the log`);
  expect(more).toEqual([]);
  return item;
};

test("weak point 23: who did what, on what, from where, with which credential, and how it ended", async () => {
  const session = await testLogin(a, { email: "ann@example.org", role: "admin", displayName: "Ann" });
  const ann = session.text("user.id");
  const token = session.text("accessToken");
  const as = (method: string, path: string, body?: unknown) => call(method, path, body, token);
  const project = (await as("POST", "/api/v1/projects", { name: "demo" })).text("id");
  await as("PATCH", `/api/v1/projects/${project}`, { name: "renamed", annotations: { colour: "blue" } });
  const pat = await as("POST", "/api/v1/auth/tokens", { name: "ci", projectId: project, scopes: ["agent:list"] });
  const patId = pat.text("accessToken.id");
  await as("DELETE", `/api/v1/auth/tokens/${patId}`);
  const invite = await as("POST", "/api/v1/admin/invites", { expiresIn: "24h", maxUses: 1, note: "" });
  await as("POST", "/api/v1/auth/invite/redeem", { code: invite.text("code") });
  await as("POST", `/api/v1/admin/invites/${invite.text("invite.id")}/revoke`);
  await as("DELETE", `/api/v1/admin/invites/${invite.text("invite.id")}`);
  await as("POST", "/api/v1/admin/allow-list", { email: "bea@example.org", note: "" });
  await as("POST", "/api/v1/admin/allow-list/import", { emails: [{ email: "x@y.example" }, { email: "z@y.example" }] });
  await as("DELETE", "/api/v1/admin/allow-list/bea@example.org");
  const runtimeBroker = await scene.runtimeBroker(a);
  await call("POST", `/api/v1/brokers/${runtimeBroker.id}/rotate-secret`, {});
  await scene.agent(a, project, "worker", runtimeBroker.id);
  expect((await as("DELETE", `/api/v1/projects/${project}/agents/worker?force=true`)).status).toBe(204);
  await call("POST", "/api/v1/auth/logout", { refreshToken: session.text("refreshToken") });

  const seen = new Set((await log()).map((item) => item.action));
  for (const action of [
    ["user_created", "login", "logout", "project_created", "project_changed", "access_token_created"],
    ["access_token_deleted", "invite_created", "invite_redeemed", "invite_revoked", "invite_deleted", "allow_list_add"],
    ["allow_list_bulk_add", "allow_list_remove", "runtime_broker_register", "runtime_broker_join_token_issued"],
    ["runtime_broker_join", "runtime_broker_rotate", "runtime_broker_link", "agent_created", "agent_deleted"],
  ].flat())
    expect(seen).toContain(action);
  expect(await one("access_token_created")).toEqual({
    id: expect.any(String),
    at: expect.any(String),
    action: "access_token_created",
    result: "success",
    actor: { kind: "user", id: ann, email: "ann@example.org" },
    credential: { kind: "user_token", id: expect.stringMatching(/^[0-9a-f-]{36}$/) },
    from: { address: FROM, userAgent: "audit-test/1", requestId: "POST-request" },
    target: { type: "access_token", id: patId, name: pat.text("accessToken.prefix") },
    projectId: project,
    details: { name: "ci", user_id: ann, scopes: ["agent:list"], expires_at: expect.any(String) },
  });
  expect((await log("&action=project_changed")).at(-1)?.details).toEqual({
    name: { from: "demo", to: "renamed" },
    annotations: ["colour"],
  });
  expect((await one("allow_list_bulk_add")).details).toEqual({ count: 2 });
  expect(await one("runtime_broker_join")).toMatchObject({
    actor: { kind: "runtimeBroker", id: runtimeBroker.id },
    target: { type: "runtime_broker", id: runtimeBroker.id },
  });
  expect(await one("logout")).toMatchObject({ actor: { kind: "user", id: ann }, target: { type: "user", id: ann } });
  // Whatever somebody asked for is on their account: nothing of it is the hub's own doing.
  const hubs = (await log("&actor=system")).map((item) => item.action);
  expect(hubs.filter((action) => action !== "user_created")).toEqual([]);

  const text = JSON.stringify(await log());
  const secrets = [session.text("accessToken"), session.text("refreshToken"), pat.text("token"), invite.text("code")];
  expect([...secrets, TEST_TOKEN].filter((secret) => text.includes(secret))).toEqual([]);
});

test("who has an agent started, stopped, suspended, resumed or restarted, wherever it is carried out", async () => {
  const session = await testLogin(a, { email: "cal@example.org", role: "admin", displayName: "Cal" });
  const cal = session.text("user.id");
  const as = (replica: InProcessReplica, path: string) =>
    api(replica, "POST", path, {}, { token: session.text("accessToken"), headers: { "x-request-id": "from-cal" } });
  const project = (await call("POST", "/api/v1/projects", { name: "halting" })).text("id");
  const runtimeBroker = await scene.runtimeBroker(a);
  const agent = await scene.agent(a, project, "worker", runtimeBroker.id);
  const verbs = ["stop", "start", "suspend", "resume", "restart"];
  for (const replica of [a, b])
    for (const verb of verbs) expect((await as(replica, `/api/v1/agents/${agent}/${verb}`)).status).toBeLessThan(300);
  // Without a machine there is nothing to carry out: it is recorded with the row that says so.
  await scene.database.query("update agents set runtime_broker_id = null where id = $1", [agent]);
  expect((await as(b, `/api/v1/agents/${agent}/stop`)).status).toBe(200);
  const requested = (await log(`&target=${agent}`)).filter(({ action }) => /^agent_\w+_requested$/.test(action));
  const expected = [...verbs, ...verbs, "stop"].reverse().map((verb) => `agent_${verb}_requested`);
  expect(requested.map(({ action }) => action)).toEqual(expected);
  for (const item of requested)
    expect(item).toMatchObject({
      result: "success",
      actor: { kind: "user", id: cal, email: "cal@example.org" },
      credential: { kind: "user_token" },
      from: { requestId: "from-cal" },
      target: { type: "agent", id: agent, name: "worker" },
      projectId: project,
    });
});

test("what decides about rights and containers is in the log when it changes, by name and without its values", async () => {
  const project = (await call("POST", "/api/v1/projects", { name: "labelled" })).text("id");
  await call("PATCH", `/api/v1/projects/${project}`, { labels: { tier: "gold" } });
  await call("POST", `/api/v1/projects/${project}/shared-dirs`, { name: "shared" });
  expect((await log("&action=project_changed")).map((item) => item.details)).toEqual([
    { shared_dirs: { from: [], to: [{ name: "shared" }] } },
    { labels: ["tier"] },
  ]);
  const group = (await call("POST", "/api/v1/groups", { name: "Labelled" })).text("id");
  await call("PATCH", `/api/v1/groups/${group}`, { labels: { tier: "gold" }, description: "told" });
  expect((await one("group_changed")).details).toEqual({ labels: ["tier"] });
  const runtimeBroker = await scene.runtimeBroker(a);
  const agent = await scene.agent(a, project, "worker", runtimeBroker.id);
  await call("POST", `/api/v1/agents/${agent}/stop`);
  await call("PATCH", `/api/v1/agents/${agent}`, {
    labels: { x: "hush-hush" },
    config: { env: { KEY: "hush-hush" }, model: "m" },
  });
  expect(await one("agent_changed")).toMatchObject({
    target: { type: "agent", id: agent, name: "worker" },
    projectId: project,
    details: { changed: ["labels"], config: ["env", "model"] },
  });
  expect(JSON.stringify(await log())).not.toContain("hush-hush");
  // In which folder of a machine agents work, and by which name people are told from each other.
  const linked = { brokerId: runtimeBroker.id, localPath: "/srv/demo" };
  for (const localPath of [linked.localPath, linked.localPath, "/etc"])
    expect((await call("POST", `/api/v1/projects/${project}/providers`, { ...linked, localPath })).status).toBe(201);
  expect((await log("&action=runtime_broker_link_changed")).map((item) => item.details)).toEqual([
    { local_path: { from: "/srv/demo", to: "/etc" } },
    { local_path: { from: null, to: "/srv/demo" } },
  ]);
  const session = await testLogin(a, { email: "ann@example.org", displayName: "Ann" });
  const ann = `/api/v1/users/${session.text("user.id")}`;
  for (const displayName of ["Bea", "Bea"]) await call("PATCH", ann, { displayName }, session.text("accessToken"));
  expect(await one("user_renamed")).toMatchObject({
    actor: { kind: "user", email: "ann@example.org" },
    target: { type: "user", id: session.text("user.id"), name: "ann@example.org" },
    details: { display_name: { from: "Ann", to: "Bea" } },
  });
});

test("what did not happen is not in the log, and who is refused is", async () => {
  const session = await testLogin(a, { email: "bea@example.org", role: "member" });
  const token = session.text("accessToken");
  expect((await call("GET", "/api/v1/admin/audit", undefined, token)).status).toBe(403);
  const id = systemRandom.uuid();
  await call("POST", "/api/v1/projects", { name: "mine", id });
  expect((await call("POST", "/api/v1/projects", { name: "theirs", id }, token)).status).toBe(409);
  expect((await log("&action=project_created")).map((item) => item.target.id)).toEqual([id]);

  for (let i = 0; i < 40; i += 1) await call("GET", "/api/v1/projects", undefined, `scion_pat_${"x".repeat(43)}`);
  await eventually(async () => (await log("&action=auth_failure")).length >= 10);
  const refusals = await log("&action=auth_failure&result=failure");
  // One more may have become due meanwhile.
  expect(refusals.length).toBeLessThan(14);
  expect(refusals[0]).toMatchObject({ actor: { kind: "nobody" }, from: { address: FROM }, result: "failure" });
  expect((await api(a, "GET", "/metrics")).body).toMatch(/rootstock_audit_unrecorded_total [23]\d/);
  expect((await log("&result=success&action=auth_failure")).length).toBe(0);
});

test("a copied refresh token, and a sign-in that is not admitted, leave their marks", async () => {
  const session = await testLogin(a, { email: "eve@example.org" });
  const eve = session.text("user.id");
  const refresh = (refreshToken: string) => call("POST", "/api/v1/auth/refresh", { refreshToken });
  const next = await refresh(session.text("refreshToken"));
  await refresh(next.text("refreshToken"));
  expect((await refresh(session.text("refreshToken"))).status).toBe(401);
  expect(await one("refresh_token_reused")).toMatchObject({
    result: "failure",
    actor: { kind: "user", id: eve },
    credential: { kind: "refresh_token", id: expect.any(String) },
    target: { type: "user", id: eve },
    from: { address: FROM },
  });
});

test("the log is append-only: nobody changes or deletes a row, and the retention takes only old ones", async () => {
  await api(a, "POST", "/api/v1/projects", { name: "demo" });
  const query = (sql: string) => scene.database.query(sql);
  for (const attempt of [
    "update audit_log set actor_id = null",
    "delete from audit_log",
    "truncate audit_log",
    "with x as (select set_config('rootstock.audit_retention', 'on', true)) delete from audit_log using x",
  ])
    await expect(query(attempt)).rejects.toThrow("append-only");
  const before = (await log()).length;
  await query("alter table audit_log disable trigger user");
  await query("update audit_log set at = now() - interval '3 days' where action = 'project_created'");
  await query("alter table audit_log enable trigger user");
  const base = { clock: systemClock, random: systemRandom, log: testLog() };
  const database = new Database({
    url: scene.database.url,
    pooled: false,
    poolSize: 1,
    applicationName: "test",
    ...base,
  });
  try {
    expect(await pruneAudit(database.db, { maxAgeSeconds: 4 * 86_400, limit: 100 })).toBe(0);
    expect(await pruneAudit(database.db, { maxAgeSeconds: 0, limit: 100 })).toBe(1);
  } finally {
    await database.stop();
  }
  expect((await log()).length).toBe(before - 1);
});

test("pages follow each other, filters narrow, and a project's owner sees what concerns it", async () => {
  const session = await testLogin(a, { email: "kim@example.org", role: "member" });
  const token = session.text("accessToken");
  const project = (await call("POST", "/api/v1/projects", { name: "kims" }, token)).text("id");
  for (let i = 0; i < 5; i += 1) await call("PATCH", `/api/v1/projects/${project}`, { name: `name ${i}` }, token);
  await call("POST", "/api/v1/projects", { name: "other" });
  const own = (query = "") => call("GET", `/api/v1/projects/${project}/audit${query}`, undefined, token);
  const all = (await own()).list("items") as readonly Item[];
  expect(all.map((item) => item.action)).toEqual([...Array<string>(5).fill("project_changed"), "project_created"]);
  const pages: unknown[] = [];
  let cursor = "";
  do {
    const reply = await own(`?limit=2${cursor && `&cursor=${cursor}`}`);
    pages.push(...reply.list("items"));
    cursor = reply.get("nextCursor") === undefined ? "" : reply.text("nextCursor");
  } while (cursor);
  expect(pages).toEqual(all);
  expect((await own("?cursor=made-up")).get("error.code")).toBe("invalid_cursor");
  expect((await own("?since=yesterday")).get("error.details.field")).toBe("since");
  const stranger = (await testLogin(a, { email: "lea@example.org" })).text("accessToken");
  expect((await call("GET", `/api/v1/projects/${project}/audit`, undefined, stranger)).status).toBe(404);

  expect(await log(`&actor=kim@example.org&project=${project}`)).toHaveLength(6);
  expect(await log(`&actor=${session.text("user.id")}&action=project_created`)).toHaveLength(1);
  expect(await log(`&target=${project}&result=success`)).toHaveLength(6);
  expect(await log("&since=2100-01-01T00:00:00Z")).toHaveLength(0);
  expect((await log("&until=2100-01-01T00:00:00Z")).length).toBeGreaterThan(6);
});

test("who may not is in the log, whether the door or the room refuses, with what and why", async () => {
  const [owner, other] = await Promise.all(
    ["own@example.org", "oth@example.org"].map(async (email) => (await testLogin(a, { email })).text("accessToken")),
  );
  const project = (await call("POST", "/api/v1/projects", { name: "demo", visibility: "team" }, owner)).text("id");
  const runtimeBroker = await scene.runtimeBroker(a);
  const agent = await scene.agent(a, project, "worker", runtimeBroker.id);
  await scene.database.query("update agents set visibility = 'team' where id = $1", [agent]);
  const refused: readonly (readonly [string, string, object, object])[] = [
    ["GET", "/api/v1/admin/invites", {}, { type: "hub" }],
    ["PATCH", `/api/v1/projects/${project}`, { name: "mine" }, { type: "project", id: project }],
    ["POST", `/api/v1/agents/${agent}/stop`, {}, { type: "agent", id: agent }],
    ["DELETE", `/api/v1/projects/${project}/agents/worker`, {}, { type: "agent", name: "worker" }],
  ];
  for (const [method, path, body, target] of refused) {
    expect((await call(method, path, method === "GET" ? undefined : body, other)).status).toBe(403);
    await eventually(async () => {
      expect((await log("&action=access_denied"))[0]).toMatchObject({
        result: "failure",
        reason: expect.any(String),
        actor: { kind: "user", email: "oth@example.org" },
        credential: { kind: "user_token" },
        from: { address: FROM, requestId: `${method}-request` },
        target,
        details: { method, does: expect.any(String) },
      });
    });
  }
  expect((await log("&action=access_denied"))[0]?.projectId).toBe(project);
  await expect(TerminalClient.attach(b, agent, { token: other ?? "" })).rejects.toThrow("403");
  await eventually(async () => (await log("&action=access_denied")).length === refused.length + 1);
  expect((await log("&action=access_denied"))[0]).toMatchObject({ target: { type: "agent", id: agent } });
  const others = new WebSocket(`${b.url.replace("http", "ws")}/api/v1/agents/${agent}/ports/tunnel`, {
    headers: { authorization: `Bearer ${other}` },
  });
  await expect(new Promise((resolve, reject) => others.on("open", resolve).on("error", reject))).rejects.toThrow("403");
  await eventually(async () => (await log("&action=access_denied")).length === refused.length + 2);
  expect((await log("&action=access_denied"))[0]).toMatchObject({ details: { does: "connect self" } });
  // What is hidden is refused as well, though nobody is told; what is not there, and what is let in, are no refusals.
  const secret = (await call("POST", "/api/v1/projects", { name: "secret" }, owner)).text("id");
  const hidden = await call("GET", `/api/v1/projects/${secret}/agents`, undefined, other);
  await eventually(async () => (await log("&action=access_denied")).length === refused.length + 3);
  expect((await log("&action=access_denied"))[0]).toMatchObject({
    reason: "default deny",
    actor: { kind: "user", email: "oth@example.org" },
    projectId: secret,
    details: { method: "GET", does: "list agent", hidden: true },
  });
  const absent = await call("GET", `/api/v1/projects/${systemRandom.uuid()}/agents`, undefined, other);
  const toldOf = ({ status, json }: ApiReply) => [status, JSON.stringify(json).replace(/"requestId":"[^"]*"/, "")];
  expect(toldOf(hidden)).toEqual(toldOf(absent));
  expect((await call("GET", `/api/v1/projects/${project}`, undefined, other)).status).toBe(200);
  for (let i = 0; i < 40; i += 1) await call("GET", "/api/v1/admin/invites", undefined, other);
  await eventually(async () => /unrecorded_total [23]\d/.test((await api(a, "GET", "/metrics")).body));
  expect((await log("&action=access_denied")).length).toBeLessThan(14);
});

test("what another replica carries out is on the account of who asked for it", async () => {
  const session = await testLogin(a, { email: "ann@example.org", role: "admin" });
  const token = session.text("accessToken");
  const project = (await call("POST", "/api/v1/projects", { name: "demo" }, token)).text("id");
  const runtimeBroker = await scene.runtimeBroker(b);
  const agents = [await scene.agent(b, project, "kept", runtimeBroker.id)];
  agents.push(await scene.agent(b, project, "gone", runtimeBroker.id));
  for (const [i, force] of ["", "?force=true"].entries())
    expect((await call("DELETE", `/api/v1/agents/${agents[i]}${force}`, undefined, token)).status).toBe(204);
  const deletions = await log("&action=agent_deleted");
  expect(deletions.map(({ target }) => target.id).sort()).toEqual([...agents].sort());
  for (const deletion of deletions)
    expect(deletion).toMatchObject({
      actor: { kind: "user", id: session.text("user.id"), email: "ann@example.org" },
      credential: { kind: "dispatch", id: expect.any(String) },
    });
  // Somebody who has gone since is who they were.
  const [known, unknown] = [systemRandom.uuid(), systemRandom.uuid()];
  const record = (actor: object) =>
    scene.database.query("select record_audit($1::jsonb, 'tried', 'hub', null, null, null, '{}')", [
      JSON.stringify(actor),
    ]);
  await record({ kind: "agent", id: known });
  await record({ kind: "asker", id: known });
  await record({ kind: "asker", id: unknown });
  expect((await log("&action=tried")).map(({ actor }) => actor)).toEqual([
    { kind: "system", id: unknown },
    { kind: "agent", id: known },
    { kind: "agent", id: known },
  ]);
});
