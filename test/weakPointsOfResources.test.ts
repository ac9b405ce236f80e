import { existsSync } from "node:fs";
import { request as httpRequest } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { AGENT_TOKEN_HEADER, AgentTokens } from "@rootstock/hub";
import { systemClock, systemRandom } from "@rootstock/service";
import {
  ApiReply,
  api,
  eventually,
  type Replica,
  Scene,
  type SimulatedCredentials,
  type SimulatedRuntimeBroker,
  TEST_SECRET,
  TEST_TOKEN,
  testLogin,
} from "@rootstock/testkit";

/**
 * Weak points of the original's resources as to who may do what (spec/05 section 17), each by its number; 6 is in
 * outsideMessages.test.ts. Most are of parts that this hub does not have: there nobody gets anything, and nothing is
 * begun. Whoever builds one of them replaces its test by one of what it does.
 */

let scene: Scene;
let a: Replica;
let b: Replica;
let runtimeBroker: SimulatedRuntimeBroker & { readonly id: string };
let credentials: SimulatedCredentials;
/** What the paths below name. */
let ids: Readonly<Record<string, string>>;
/** Everybody who is known, by what they may do elsewhere. */
let known: Readonly<Record<string, Ask>>;

type Ask = (method: string, path: string, body?: object) => Promise<ApiReply>;
type Call = readonly [method: string, path: string, body?: object];

const SCOPES = ["agent:status:update", "agent:token:refresh", "project:agent:notify", "project:agent:create"];

beforeAll(async () => {
  scene = await Scene.create();
  // Hundreds of refusals from one address.
  const env = { ROOTSTOCK_TEST_LOGIN: "1", ROOTSTOCK_RATE_LIMITS: "off" };
  [a, b] = [await scene.replica(env), await scene.replica(env)];
  credentials = await scene.join(a, "laptop");
  runtimeBroker = await scene.connect(a, credentials);
  const [ann, eve, vic] = await Promise.all([
    signIn("ann", "member"),
    signIn("eve", "member"),
    signIn("vic", "viewer"),
  ]);
  const project = (await as(ann)("POST", "/api/v1/projects", { name: "ours" })).text("id");
  const foreign = (await as(eve)("POST", "/api/v1/projects", { name: "theirs" })).text("id");
  const agent = await makeAgent(ann, project, "a1");
  const stranger = await makeAgent(eve, foreign, "a2");
  const scopes = ["project:read", "agent:create", "agent:read", "agent:message", "agent:manage"];
  const made = await as(ann)("POST", "/api/v1/auth/tokens", { name: "all", projectId: project, scopes });
  ids = { project, agent, broker: runtimeBroker.id, id: systemRandom.uuid() };
  known = {
    viewer: as(vic),
    "somebody else": as(eve),
    owner: as(ann),
    "access token": as(made.text("token")),
    admin: as(TEST_TOKEN),
    agent: asAgent(await tokenOf(agent, project)),
    "agent of another project": asAgent(await tokenOf(stranger, foreign)),
    "runtime broker": async (method, path, body) => replyOf(await runtimeBroker.fetch(method, path, body)),
  };
});
afterAll(() => scene.end());

const signIn = async (name: string, role: "member" | "viewer"): Promise<string> =>
  (await testLogin(a, { email: `${name}@example.org`, role })).text("accessToken");
const as =
  (token: string, replica = () => b): Ask =>
  (method, path, body) =>
    api(replica(), method, path, body, { token });
const asAgent =
  (token: string): Ask =>
  (method, path, body) =>
    api(b, method, path, body, { headers: { authorization: "", [AGENT_TOKEN_HEADER]: token } });
const asNobody: Ask = (method, path, body) => api(b, method, path, body, { headers: { authorization: "" } });
const replyOf = async (response: Response) => new ApiReply(response.status, response.headers, await response.text());

const makeAgent = async (token: string, projectId: string, name: string, more: object = {}): Promise<string> => {
  const asked = { name, task: "wait", runtimeBrokerId: runtimeBroker.id, ...more };
  const id = (await as(token)("POST", `/api/v1/projects/${projectId}/agents`, asked)).text("agent.id");
  await scene.ready(a, id);
  return id;
};
const tokenOf = async (agentId: string, projectId: string): Promise<string> => {
  const tokens = new AgentTokens([TEST_SECRET], { clock: systemClock, random: systemRandom });
  return (await tokens.issue({ agentId, projectId, scopes: SCOPES, ancestry: [], tokenVersion: 1 })).token;
};

/** What a call might have changed; who was seen when, what was refused, and limits apart. */
const state = async (): Promise<string> => {
  const tables = [
    "projects",
    "project_providers",
    "agent_kept_values",
    "messages",
    "broker_dispatch",
    "policies",
  ].concat(
    ["groups", "group_memberships", "policy_bindings", "invites", "allow_list", "broker_secrets", "idempotency_keys"],
    ["notification_subscriptions", "maintenance", "broker_join_tokens", "device_logins", "login_codes"],
  );
  const rows = tables.map((table) => `select '${table} ' || t::text as row from ${table} t`);
  const agents =
    "select 'agents ' || concat_ws(' ', id, slug, phase, labels, applied_config, token_version) from agents";
  const people = "select 'users ' || concat_ws(' ', id, email, role, status) from users";
  const found = await scene.database.query(`${[...rows, agents, people].join(" union all ")} order by 1`);
  return JSON.stringify([found, runtimeBroker.received.length]);
};

/** Refused, not there, not that way, not configured. */
const NOTHING = [403, 404, 405, 501];

/** Nobody gets anything by these calls, and nothing comes of them: not a row, not a call to a runtime broker. */
const expectNothing = async (calls: readonly Call[], also: readonly number[] = []): Promise<void> => {
  const before = await state();
  const found: unknown[] = [];
  const tried = async ([method, pattern, body = {}]: Call): Promise<void> => {
    const path = `/api/v1${pattern.replace(/\{(\w+)\}/g, (_, name: string) => ids[name] ?? name)}`;
    const sent = method === "GET" ? undefined : body;
    const nobody = await asNobody(method, path, sent);
    if (nobody.status !== 401) found.push(["nobody", method, path, nobody.status]);
    await Promise.all(
      Object.entries(known).map(async ([who, ask]) => {
        const { status } = await ask(method, path, sent);
        if (![...NOTHING, ...also].includes(status)) found.push([who, method, path, status]);
      }),
    );
  };
  for (let i = 0; i < calls.length; i += 8) await Promise.all(calls.slice(i, i + 8).map(tried));
  expect(found).toEqual([]);
  expect(await state()).toBe(before);
};

/** Every way of calling these paths. */
const every = (paths: readonly string[], methods = ["GET", "PUT", "POST", "DELETE"]): Call[] =>
  paths.flatMap((path) => methods.map((method): Call => [method, path]));

/** What templates and harness configs have below their own id. */
const BELOW = ["/upload", "/finalize", "/download", "/clone", "/files", "/files/scion-agent.yaml"];
const GITHUB = ["github-installation", "github-status", "github-permissions", "git-identity"];

test("spec/05 section 17, 1: there is no store of secrets and values, so that none lies there in the clear", async () => {
  const places = ["", "/projects/{project}", "/runtime-brokers/{broker}"].flatMap((place) =>
    ["env", "secrets"].flatMap((what) => [`${place}/${what}`, `${place}/${what}/KEY`]),
  );
  const own = ["/agents/{agent}/secrets/KEY", "/projects/{project}/agents/{agent}/secrets/KEY"];
  const value = { value: "a value to be kept", scope: "project", scopeId: ids.project };
  await expectNothing([...every([...places, ...own]), ...places.map((path): Call => ["PUT", path, value])]);
});

test("spec/05 section 17, 1 and 4: a container is told nothing of the hub's own secrets, and no agent keeps what it was given", async () => {
  const env = { MINE: "given with the agent" };
  const id = await makeAgent(TEST_TOKEN, ids.project ?? "", "told", { provisionOnly: false, config: { env } });
  const [launch] = runtimeBroker.received.filter((r) => Reflect.get(Object(r.json), "slug") === "told");
  const told = JSON.stringify(launch?.json);
  for (const secret of [TEST_SECRET, TEST_TOKEN, credentials.secretKey, "GITHUB_APP", scene.database.url])
    expect([secret, told.includes(secret)]).toEqual([secret, false]);
  expect(Object.keys(Object(Reflect.get(Object(launch?.json), "resolvedEnv"))).sort()).toEqual([
    "SCION_METADATA_MODE",
    "SCION_METADATA_MODE_SOURCE",
  ]);
  expect(Reflect.get(Object(launch?.json), "resolvedSecrets")).toBeUndefined();
  const [row] = await scene.database.query("select applied_config::text as text from agents where id = $1", [id]);
  expect(String(row?.text)).not.toContain("SCION_METADATA");
  await as(TEST_TOKEN)("DELETE", `/api/v1/agents/${id}`);
});

test("spec/05 section 17, 2: who is merely known changes no template, no harness config and no skill", async () => {
  const kinds = ["/templates", "/harness-configs"];
  const named = kinds.flatMap((kind) => [`${kind}/{id}`, ...BELOW.map((below) => `${kind}/{id}${below}`)]);
  const imports = ["/projects/{project}/import-templates", "/projects/{project}/import-harness-configs"];
  await expectNothing([
    ...every(named, ["GET", "PUT", "POST", "PATCH", "DELETE"]),
    ...every([...kinds, "/skills"], ["POST", "PUT", "DELETE"]),
    ...every([...imports, "/resources/import"]),
  ]);
  for (const [kind, list] of [
    ["/templates", "templates"],
    ["/harness-configs", "harnessConfigs"],
    ["/skills", "skills"],
  ] as const)
    expect((await as(TEST_TOKEN)("GET", `/api/v1${kind}`)).get(list)).toEqual([]);
});

test("spec/05 section 17, 2 and 10: nobody reads or writes files by way of the hub, whoever's workspace it is", async () => {
  const files = [
    "workspace",
    "workspace/files",
    "workspace/files/x",
    "workspace/archive",
    "workspace/pull",
    "dav",
  ].concat(
    ["dav/x", "workspace/cache/refresh", "workspace/cache/status", "workspace/cache/notify", "sync/status"],
    ["shared-dirs/data/files", "shared-dirs/data/files/x", "shared-dirs/data/archive"],
  );
  const sync = ["", "/sync-from", "/sync-to", "/sync-to/finalize"].flatMap((below) => [
    `/agents/{agent}/workspace${below}`,
    `/agents/a1/workspace${below}`,
    `/projects/{project}/agents/a1/workspace${below}`,
  ]);
  await expectNothing([...every(files.map((file) => `/projects/{project}/${file}`)), ...every(sync)]);
  const dav = ["/projects/{project}/dav", "/projects/{project}/dav/x"];
  await expectNothing(every(dav, ["PROPFIND", "MKCOL", "MOVE", "LOCK"]));
});

test("spec/05 section 17, 2, 4, 15 and 16: nobody sets GitHub, reads its keys, or changes the settings of the hub", async () => {
  const app = ["", "/installations", "/installations/1", "/installations/discover", "/sync-permissions"];
  await expectNothing([
    ...every(app.map((below) => `/github-app${below}`)),
    ...every(GITHUB.map((what) => `/projects/{project}/${what}`)),
    ...every(["/admin/server-config", "/admin/scheduler"]),
    ["PUT", "/github-app", { app_id: 1, private_key: "a key", webhook_secret: "a secret" }],
    ["PUT", "/admin/server-config", { server: { github_app: { private_key: "********" } } }],
  ]);
  // Of an agent itself it says that there is none: 503.
  await expectNothing([["POST", "/agents/{agent}/refresh-token"]], [503]);
  expect((await as(TEST_TOKEN)("GET", "/api/v1/settings/public")).json).toEqual({ telemetryEnabled: false });
});

test("spec/05 section 17, 3 and 8b: nobody sets the hub up from outside: no webhook, signed or not, and no setup page", async () => {
  const before = await state();
  const body = { action: "created", installation: { id: 7, account: { login: "eve" } } };
  const hooked = {
    authorization: "",
    "x-github-event": "installation",
    "x-hub-signature-256": `sha256=${"0".repeat(64)}`,
  };
  for (const headers of [{ authorization: "" }, hooked])
    expect((await api(b, "POST", "/api/v1/webhooks/github", body, { headers })).status).toBe(401);
  expect((await asNobody("GET", "/github-app/setup?installation_id=7&setup_action=install")).status).toBe(401);
  for (const [who, ask] of Object.entries(known))
    for (const [method, path] of [
      ["POST", "/api/v1/webhooks/github"],
      ["GET", "/github-app/setup?installation_id=7"],
    ] as const) {
      const { status } = await ask(method, path, method === "POST" ? body : undefined);
      expect([who, path, NOTHING.includes(status)]).toEqual([who, path, true]);
    }
  expect(await state()).toBe(before);
});

/** Ways to say "the folder above", and to begin at the root. */
const UP = [
  "../",
  "..%2f",
  "%2e%2e/",
  "%2e%2e%2f",
  "..%5c",
  "%252e%252e%252f",
  "%c0%ae%c0%ae/",
  "....//",
  "..;/",
  "..%00/",
];
const SECRET_FILE = "etc/passwd";

test("spec/05 section 17, 5: no path leads out of its folder, however it is written, and none to a file of the hub's machine", async () => {
  const places = [
    ...["templates", "harness-configs", "skills"].map((kind) => `/api/v1/${kind}/${ids.id}/files/`),
    ...["workspace/files/", "dav/", "shared-dirs/data/files/", "shared-dirs/"].map(
      (place) => `/api/v1/projects/${ids.project}/${place}`,
    ),
    `/api/v1/projects/${ids.project}/agents/`,
    `/api/v1/agents/${ids.agent}/workspace/`,
    ...["/api/v1/agents/", "/api/v1/projects/", "/assets/", "/auth/login/", "/"],
  ];
  const canary = `rootstock-${systemRandom.uuid()}`;
  const before = await state();
  const found: unknown[] = [];
  const headers = { authorization: `Bearer ${TEST_TOKEN}` };
  for (const place of places)
    for (const up of UP)
      await Promise.all(
        (
          [
            ["GET", SECRET_FILE],
            ["PUT", join(tmpdir(), canary).slice(1)],
          ] as const
        ).map(async ([method, file]) => {
          const path = `${place}${up.repeat(12)}${file}`;
          const { status, body } = await exactly(method, path, headers);
          if (status < 300 || (status >= 500 && status !== 501) || /root:|uid=/.test(body))
            found.push([method, path, status]);
        }),
      );
  expect(found).toEqual([]);
  expect(existsSync(join(tmpdir(), canary))).toBe(false);
  expect(await state()).toBe(before);
});

test("spec/05 section 17, 5: nor does the path of a file that is declared in a body", async () => {
  const files = ["../../etc/passwd", "/etc/passwd", "..\\..\\x", "a/../../x", "\u0000"].map((path) => ({
    path,
    size: 1,
  }));
  const manifest = { version: "1.0", files: files.map((file) => ({ ...file, hash: `sha256:${"0".repeat(64)}` })) };
  await expectNothing(
    ["/templates", "/harness-configs", "/skills"].flatMap((kind): Call[] => [
      ["POST", kind, { name: "x", harness: "claude", files }],
      ["POST", `${kind}/{id}/upload`, { version: "1.0.0", files }],
      ["POST", `${kind}/{id}/finalize`, { version: "1.0.0", manifest }],
      ["PUT", `${kind}/{id}`, { name: "x", storagePath: "../../etc", files }],
    ]),
  );
});

/** A call whose path is sent as it is written: URLs are put in order by `fetch`. */
const exactly = (
  method: string,
  path: string,
  headers: Readonly<Record<string, string>>,
): Promise<{ readonly status: number; readonly body: string }> =>
  new Promise((resolve, reject) => {
    const { hostname, port } = new URL(b.url);
    const asked = httpRequest({ hostname, port, method, path, headers }, (response) => {
      const parts: Buffer[] = [];
      response.on("data", (part: Buffer) => parts.push(part));
      response.on("end", () =>
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(parts).toString("utf8") }),
      );
    });
    asked.on("error", reject);
    asked.end(method === "PUT" ? "written" : undefined);
  });

test("spec/05 section 17, 7: chats' accounts are linked to nobody's, and a code that is too short is a wrong one", async () => {
  const code = "ABC234";
  for (const chat of ["telegram", "discord"])
    await expectNothing([
      ["POST", `/${chat}/link`, { code, telegramUserId: "1", discordUserId: "1" }],
      ["POST", `/${chat}/link`, { code: "A", telegramUserId: "1", discordUserId: "1" }],
      ["POST", `/${chat}/link/verify`, { code }],
      ["GET", `/${chat}/link/status?${chat}_user_id=1`],
    ]);
  // The codes that there are. Guesses are counted by all replicas, by the address that proxies tell (rateLimits.test.ts).
  for (const short of ["", "A", "AB"]) {
    const redeemed = await as(TEST_TOKEN)("POST", "/api/v1/auth/invite/redeem", { code: short });
    const polled = await asNobody("POST", "/api/v1/auth/cli/device/token", { deviceCode: short });
    for (const { status } of [redeemed, polled]) expect([short, status >= 400 && status < 500]).toEqual([short, true]);
  }
});

test("spec/05 section 17, 8 and 11: no skill is uploaded, replaced or resolved, and no address of a file is handed out", async () => {
  const below = ["", "/versions", "/versions/{id}", "/versions/{id}/deprecate", "/upload", "/finalize", "/download"];
  await expectNothing([
    ...every([...below, "/resolve", "/files/SKILL.md"].map((path) => `/skills/{id}${path}`)),
    ["POST", "/skills", { name: "x" }],
    ["POST", "/skills/resolve", { skills: [{ uri: "skill://global/x" }] }],
  ]);
});

test("spec/05 section 17, 8a: no cloud identity is verified, made or handed out, to agents neither", async () => {
  const accounts = ["", "/{id}", "/{id}/verify", "/mint"].map(
    (path) => `/projects/{project}/gcp-service-accounts${path}`,
  );
  await expectNothing([
    ...every(accounts),
    ["POST", "/agent/gcp-token", { scopes: [] }],
    ["POST", "/agent/gcp-identity-token", { audience: "https://example.org" }],
    ["GET", "/admin/gcp-quota"],
  ]);
  const gcp_identity = { metadata_mode: "assign", service_account_id: ids.id };
  const asked = await known.owner?.("POST", `/api/v1/projects/${ids.project}/agents`, { name: "b", gcp_identity });
  expect([asked?.status, asked?.get("error.details")]).toEqual([400, { field: "gcp_identity.metadata_mode" }]);
});

test("spec/05 section 17, 9: an agent without credentials is told of none when it starts again", async () => {
  const id = await makeAgent(TEST_TOKEN, ids.project ?? "", "bare", { noAuth: true });
  const launched = (): readonly unknown[] =>
    runtimeBroker.received.flatMap(({ json, path }) =>
      Reflect.get(Object(json), "slug") === "bare" || path.includes("/bare/start") ? [json] : [],
    );
  expect(launched()).toMatchObject([{ noAuth: true }]);
  expect((await as(TEST_TOKEN)("POST", `/api/v1/agents/${id}/stop`)).status).toBe(200);
  expect((await as(TEST_TOKEN)("POST", `/api/v1/agents/${id}/start`)).status).toBe(200);
  await eventually(() => launched().length === 2);
  const again = Object(launched().at(-1));
  expect(Object.keys(Reflect.get(again, "resolvedEnv")).filter((key) => !key.startsWith("SCION_"))).toEqual([]);
  expect(Reflect.get(again, "resolvedSecrets")).toBeUndefined();
  await as(TEST_TOKEN)("DELETE", `/api/v1/agents/${id}`);
});

test("spec/05 section 17, 13 and 21: nobody has the hub call others, nor run anything on its machine", async () => {
  const hook = {
    ...{ name: "x", scopeType: "hub", trigger: "running", enabled: true },
    action: { type: "webhook", url: "http://127.0.0.1:1/", onError: "log", timeoutSeconds: 1 },
  };
  const operations = [
    "",
    "/rebuild-server",
    "/rebuild-server/run",
    "/rebuild-server/runs",
    "/rebuild-server/runs/{id}",
  ];
  await expectNothing([
    ...every(["/admin/lifecycle-hooks", "/admin/lifecycle-hooks/{id}"]),
    ["POST", "/admin/lifecycle-hooks", hook],
    ...every(operations.map((path) => `/admin/maintenance/operations${path}`)),
    ["POST", "/admin/maintenance/migrations/secret-hub-id-migration/run"],
    ["POST", "/admin/maintenance/check-updates"],
  ]);
});

test("spec/05 section 17, 14: nothing is cloned over what is somebody else's, and the slug of another's project is not to be had", async () => {
  await expectNothing([
    ["POST", "/templates/{id}/clone", { name: "x", scope: "project", scopeId: ids.project }],
    ["POST", "/harness-configs/{id}/clone", { name: "x", scope: "global" }],
  ]);
  // What is kept by slug, on runtime brokers: a folder each, also of projects that are gone.
  const eve = await signIn("eve", "member");
  const made = await as(eve)("POST", "/api/v1/projects", { name: "ours" });
  expect([made.status, made.text("slug")]).toEqual([201, "ours-1"]);
  expect((await as(eve)("PATCH", `/api/v1/projects/${made.text("id")}`, { slug: "ours" })).status).toBe(409);
});

test("spec/05 section 17, 20: what says who may do what is the same at every replica: maintenance, tokens, used signatures", async () => {
  const [eve, made] = await Promise.all([
    signIn("eve", "member"),
    known.owner?.("POST", "/api/v1/auth/tokens", { name: "ci", projectId: ids.project, scopes: ["agent:list"] }),
  ]);
  const list = (replica: Replica, token: string) => as(token, () => replica)("GET", "/api/v1/projects");
  const everywhere = async (token: string, status: number) => {
    for (const replica of [a, b]) await eventually(async () => (await list(replica, token)).status === status, 3_000);
  };
  const token = made?.text("token") ?? "";
  await everywhere(token, 200);
  expect((await known.owner?.("DELETE", `/api/v1/auth/tokens/${made?.text("accessToken.id")}`))?.status).toBe(204);
  await everywhere(token, 401);
  const maintenance = (enabled: boolean) => api(a, "PUT", "/api/v1/admin/maintenance", { enabled });
  await maintenance(true);
  try {
    await everywhere(eve, 503);
  } finally {
    await maintenance(false);
  }
  await everywhere(eve, 200);
  const path = "/api/v1/broker/projects";
  const headers = runtimeBroker.sign("GET", path, "", Buffer.alloc(0));
  const signed = (replica: Replica) => fetch(`${replica.url}${path}`, { headers });
  expect([(await signed(a)).status, (await signed(b)).status]).toEqual([200, 401]);
});
