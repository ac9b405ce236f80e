import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { AGENT_TOKEN_HEADER } from "@rootstock/hub";
import { systemRandom } from "@rootstock/service";
import {
  api,
  dumpOf,
  eventually,
  holdsSecret,
  type ReceivedRequest,
  Scene,
  SimulatedRuntimeBroker,
  startReplicaProcess,
  TEST_SECRET,
  TEST_TOKEN,
} from "@rootstock/testkit";

/** What a replica writes while it does everything that handles a secret, at the level that tells most. */

let scene: Scene;
beforeEach(async () => {
  scene = await Scene.create();
});
afterEach(() => scene.end());

const textAt = (value: unknown, ...path: readonly string[]): string | undefined => {
  const found = path.reduce<unknown>((v, key) => Reflect.get(Object(v), key), value);
  return typeof found === "string" ? found : undefined;
};

const tokenOf = (request: ReceivedRequest): string | undefined =>
  textAt(request.json, "agentToken") ??
  textAt(request.json, "resolvedEnv", "SCION_AUTH_TOKEN") ??
  textAt(request.json, "token");

test("weak point: no credential and no gathered value is ever in the log, nor does a dump of the database show one", async () => {
  const scrapeToken = `scrape-${systemRandom.uuid()}`;
  const replica = await startReplicaProcess({
    databaseUrl: scene.database.url,
    name: "talkative",
    env: { ROOTSTOCK_LOG_LEVEL: "trace", ROOTSTOCK_METRICS_TOKEN: scrapeToken },
  });
  scene.onEnd(async () => {
    replica.signal("SIGKILL");
    await replica.exited;
  });
  const post = (path: string, body?: object, headers: Record<string, string> = {}) =>
    api(replica, "POST", path, body, { headers });

  const registered = await post("/api/v1/brokers", { name: "laptop", autoProvide: true });
  const brokerId = registered.text("brokerId");
  const joinToken = registered.text("joinToken");
  const wrong = await post("/api/v1/brokers/join", { brokerId, joinToken: `${joinToken.slice(0, -1)}x` });
  expect(wrong.status).toBe(401);
  const joined = await post("/api/v1/brokers/join", { brokerId, joinToken, hostname: "laptop", version: "" });
  const secretKey = joined.text("secretKey");

  const gathered = `gathered-${systemRandom.uuid()}`;
  let refuses = false;
  const runtimeBroker: SimulatedRuntimeBroker = new SimulatedRuntimeBroker({
    hubUrl: replica.url,
    credentials: { brokerId, secretKey },
    like: "rootstock",
    handle: (request) => {
      if (refuses) return { status: 500, body: { error: { code: "runtime_error", message: "not today" } } };
      const hasKey = textAt(request.json, "resolvedEnv", "API_KEY") !== undefined;
      return request.path === "/api/v1/agents" && !hasKey
        ? { status: 202, body: { agentId: "x", required: ["API_KEY"], needs: ["API_KEY"] } }
        : runtimeBroker.agents.handle(request);
    },
  });
  scene.onEnd(() => runtimeBroker.stop());
  await runtimeBroker.connect();

  const project = await scene.project(replica);
  const agents = `/api/v1/projects/${project}/agents`;
  const keyed = { "idempotency-key": systemRandom.uuid() };
  const configured = `configured-${systemRandom.uuid()}`;
  const config = { env: { GIVEN: configured } };
  const made = await post(agents, { name: "a1", task: "wait", gatherEnv: true, config }, keyed);
  expect(made.status).toBe(202);
  const agent = made.text("agent.id");
  expect((await post(`${agents}/a1/env`, { env: { API_KEY: gathered } }, { "idempotency-key": "env" })).status).toBe(
    200,
  );
  expect((await post(`${agents}/a1/env`, { env: { API_KEY: gathered } }, { "idempotency-key": "env" })).status).toBe(
    200,
  );
  const [first = ""] = runtimeBroker.received.flatMap((r) => tokenOf(r) ?? []);
  const asAgent = { authorization: "", [AGENT_TOKEN_HEADER]: first };
  const refreshed = await post(`/api/v1/agents/${agent}/token/refresh`, undefined, asAgent);
  await post(`/api/v1/agents/${agent}/status`, { phase: "running", activity: "working" }, asAgent);
  expect((await post(`/api/v1/agents/${agent}/message`, { message: "hello" })).status).toBe(200);
  for (const verb of ["stop", "start", "restart", "reset-auth"]) await post(`/api/v1/agents/${agent}/${verb}`);
  refuses = true;
  for (const verb of ["start", "restart", "reset-auth", "exec"])
    await post(`/api/v1/agents/${agent}/${verb}`, { command: ["env"] });
  const rotated = await post(`/api/v1/brokers/${brokerId}/rotate-secret`);
  await runtimeBroker.heartbeat();
  await api(replica, "GET", "/metrics", undefined, { token: scrapeToken });
  await api(replica, "GET", "/api/v1/agents", undefined, { token: `${TEST_TOKEN}0` });
  await api(replica, "GET", "/api/v1/agents", undefined, { token: `${first}0` });

  const secrets = {
    TEST_TOKEN,
    TEST_SECRET,
    scrapeToken,
    joinToken,
    secretKey,
    gathered,
    configured,
    rotated: rotated.text("secretKey"),
    refreshed: refreshed.text("token"),
    ...Object.fromEntries(runtimeBroker.received.flatMap((r, i) => [[`agentToken${i}`, tokenOf(r) ?? "none"]])),
  };
  const signatures = runtimeBroker.received.map((r) => r.headers["x-scion-signature"] ?? "none");
  const given = Object.values(secrets).filter((secret) => secret !== "none");
  expect(given.length).toBeGreaterThan(12);
  await eventually(() => replica.output().includes("reset-auth"));
  const output = replica.output();
  expect(given.filter((secret) => output.includes(secret))).toEqual([]);
  expect(signatures.filter((signature) => signature !== "none" && output.includes(signature))).toEqual([]);

  const rows = await dumpOf(scene.database);
  expect(rows.length).toBeGreaterThan(20);
  const clear = Object.entries(secrets).flatMap(([what, secret]) =>
    secret === "none"
      ? []
      : rows.filter(({ text }) => holdsSecret(text, secret)).map(({ table }) => `${what} in ${table}`),
  );
  expect(clear).toEqual([]);
});

test("the search of the dump finds a secret in every form", () => {
  const secret = systemRandom.bytes(32).toString("base64");
  const raw = Buffer.from(secret, "base64");
  const forms = [
    secret,
    raw.toString("hex"),
    Buffer.from(secret).toString("hex"),
    ...["", "x", "xy", "xyz"].map((before) => Buffer.from(`${before}${secret} and more`).toString("base64")),
    JSON.stringify({ nested: JSON.stringify({ secret }) }),
  ];
  expect(forms.filter((form) => !holdsSecret(`{"column":"${form}"}`, secret))).toEqual([]);
  expect(holdsSecret(systemRandom.bytes(200).toString("hex"), secret)).toBe(false);
});

test("a database that refuses the password: the replica says why it does not start, and not with what", async () => {
  const url = new URL(scene.database.url);
  url.password = "not-the-password";
  url.username = "nobody";
  const refusal = await startReplicaProcess({
    databaseUrl: url.toString(),
    env: { ROOTSTOCK_LOG_LEVEL: "trace" },
  }).then(
    () => "it started",
    (err: unknown) => String(err),
  );
  expect(refusal).toMatch(/ended \([1-9]\d*\)/);
  expect(refusal).not.toContain("not-the-password");
});
