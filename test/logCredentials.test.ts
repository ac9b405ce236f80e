import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import { api, eventually, type ReplicaProcess, Scene, startReplicaProcess, testLogin } from "@rootstock/testkit";

/** What people and programs show to get in: on no line of the log, whatever it was shown for, and in no audit row. */

let scene: Scene;
let replica: ReplicaProcess;
beforeAll(async () => {
  scene = await Scene.create();
  replica = await startReplicaProcess({
    databaseUrl: scene.database.url,
    name: "talkative",
    env: { ROOTSTOCK_LOG_LEVEL: "trace", ROOTSTOCK_TEST_LOGIN: "1" },
  });
  scene.onEnd(() => replica.stop());
});
afterAll(() => scene.end());

const made = (): string => systemRandom.bytes(24).toString("base64url");

test("weak points section 8: tokens, codes and tickets are on no line of the log and in no row of the audit log", async () => {
  const post = (path: string, body: unknown, headers: Readonly<Record<string, string>> = {}) =>
    api(replica, "POST", path, body, { headers });
  const session = await testLogin(replica, { email: "ann@example.org", role: "admin" });
  const token = session.text("accessToken");
  const refreshed = await post("/api/v1/auth/refresh", { refreshToken: session.text("refreshToken") });
  const cookie = /=([^;]+)/.exec(session.headers.get("set-cookie") ?? "")?.[1] ?? "";
  const project = await api(replica, "POST", "/api/v1/projects", { name: "demo" }, { token });
  const tokens = { name: "ci", projectId: project.text("id"), scopes: ["agent:list"] };
  const pat = (await api(replica, "POST", "/api/v1/auth/tokens", tokens, { token })).text("token");
  const invite = await post("/api/v1/admin/invites", { expiresIn: "24h", maxUses: 1, note: "" });
  const device = await post("/api/v1/auth/cli/device", {});
  const shown = {
    token,
    refreshToken: session.text("refreshToken"),
    refreshed: refreshed.text("refreshToken"),
    cookie,
    pat,
    invite: invite.text("code"),
    ...(device.status === 200 && { deviceCode: device.text("deviceCode") }),
    code: made(),
    state: made(),
    ticket: made(),
    query: made(),
    wrongPat: `scion_pat_${made()}${"x".repeat(11)}`,
    wrongBearer: `${made()}.${made()}.${made()}`,
    wrongAgent: made(),
    wrongJoin: `scion_join_${made()}`,
    wrongInvite: `scion_inv_${made()}`,
    wrongRefresh: `${made()}.${made()}.${made()}`,
    wrongCode: made(),
  };
  await api(replica, "GET", "/api/v1/projects", undefined, { token: pat });
  await api(replica, "GET", "/api/v1/projects", undefined, { token: shown.wrongPat });
  await api(replica, "GET", "/api/v1/projects", undefined, { token: shown.wrongBearer });
  await api(replica, "GET", "/api/v1/projects", undefined, {
    headers: { authorization: "", "x-scion-agent-token": shown.wrongAgent },
  });
  for (const path of [
    `/auth/callback/google?code=${shown.code}&state=${shown.state}`,
    `/invite?code=${shown.invite}`,
    `/device?user_code=${shown.code}`,
    `/auth/cli?request=${shown.query}`,
    `/api/v1/agents/a/pty?ticket=${shown.ticket}`,
    `/api/v1/projects?access_token=${shown.query}`,
    `/nowhere?token=${shown.query}`,
  ])
    await api(replica, "GET", path, undefined, {
      headers: { authorization: "", accept: "text/html", cookie: `x=${shown.cookie}` },
    });
  await post("/api/v1/brokers/join", { brokerId: systemRandom.uuid(), joinToken: shown.wrongJoin });
  await post("/api/v1/auth/invite/redeem", { code: shown.wrongInvite });
  await post("/api/v1/auth/invite/redeem", { code: shown.invite });
  await post("/api/v1/auth/refresh", { refreshToken: shown.wrongRefresh });
  await post("/api/v1/auth/validate", { token: shown.token });
  await post("/api/v1/auth/cli/token", { code: shown.wrongCode, callbackUrl: "http://127.0.0.1:1/callback" });
  await post("/api/v1/auth/cli/device/token", { deviceCode: shown.wrongCode });
  await post("/api/v1/auth/logout", { refreshToken: shown.refreshed });
  await api(replica, "GET", `/last-${made()}`);

  await eventually(() => replica.output().includes('"/api/v1/auth/logout"'));
  const output = replica.output();
  expect(output.split("\n").length).toBeGreaterThan(20);
  const rows = await scene.database.query("select row_to_json(a)::text as text from audit_log a");
  const audit = rows.map((row) => String(row.text)).join("\n");
  expect(rows.length).toBeGreaterThan(8);
  const found = (text: string) =>
    Object.entries(shown).flatMap(([what, secret]) => (text.includes(secret) ? [what] : []));
  expect(found(output)).toEqual([]);
  expect(found(audit)).toEqual([]);
});
