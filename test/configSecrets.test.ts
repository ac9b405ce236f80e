import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import {
  type ApiReply,
  api,
  dumpOf,
  eventually,
  holdsSecret,
  type InProcessReplica,
  type ReceivedRequest,
  Scene,
  type SimulatedRuntimeBroker,
} from "@rootstock/testkit";
import pg from "pg";

/** What an agent's configuration gives its container: as it was given there, and in the database for nobody to read. */

let scene: Scene;
let owner: InProcessReplica;
let entry: InProcessReplica;
let machine: SimulatedRuntimeBroker;
let project: string;
beforeEach(async () => {
  scene = await Scene.create();
  owner = await scene.replica();
  entry = await scene.replica();
  machine = await scene.runtimeBroker(owner);
  project = await scene.project(owner);
});
afterEach(() => scene.end());

const secrets: string[] = [];
const secret = (what: string): string => {
  const made = `${what}-${systemRandom.uuid()}`;
  secrets.push(made);
  return made;
};

/** A configuration with a secret in every place that is made for one. */
const configWith = (what: string) => ({
  image: "an-image",
  env: { API_KEY: secret(`${what} env`) },
  mcp_servers: {
    local: {
      command: "serve",
      args: ["--token", secret(`${what} argument`)],
      env: { TOKEN: secret(`${what} server`) },
    },
    remote: {
      url: `https://x:${secret(`${what} url`)}@mcp.example.org`,
      headers: { Authorization: secret(`${what} h`) },
    },
  },
  telemetry: { cloud: { headers: { "x-api-key": secret(`${what} telemetry`) } } },
  services: [{ name: "db", env: { PASSWORD: secret(`${what} service`) } }],
  image_pull_secret: { username: "u", password: secret(`${what} registry`) },
  secrets: [{ name: "s", value: secret(`${what} list`) }],
});

const agents = () => `/api/v1/projects/${project}/agents`;
const at = (request: ReceivedRequest | undefined, ...path: string[]): unknown =>
  path.reduce<unknown>((v, key) => Reflect.get(Object(v), key), request?.json);
const lastOf = (slug: string, action?: string): ReceivedRequest | undefined =>
  machine.received.findLast((r) =>
    action ? r.path === `/api/v1/agents/${slug}/${action}` : r.path === "/api/v1/agents" && at(r, "slug") === slug,
  );
const stored = (name: string, agent: string) =>
  scene.database.query<{ value: Buffer }>("select value from agent_config_values where agent_id = $1 and name = $2", [
    agent,
    name,
  ]);

test("whichever way a configuration came in, a dump of the database shows nothing that it gives, and the container gets all", async () => {
  const created = configWith("created");
  const keyed = { headers: { "idempotency-key": "create" } };
  const create = () => api(entry, "POST", agents(), { name: "a1", task: "wait", config: created }, keyed);
  const made = await create();
  expect(made.status).toBe(201);
  expect((await create()).body).toBe(made.body);
  expect(at(lastOf("a1"), "inlineConfig")).toEqual(created);
  const agent = made.text("agent.id");

  await api(entry, "POST", `/api/v1/agents/${agent}/stop`);
  const changed = configWith("changed");
  const patched = await api(entry, "PATCH", `${agents()}/a1`, { config: changed });
  expect(patched.get("appliedConfig")).toMatchObject({ env: changed.env, inlineConfig: changed, image: "an-image" });
  for (const verb of ["start", "restart", "suspend", "resume"]) {
    expect([verb, (await api(entry, "POST", `/api/v1/agents/${agent}/${verb}`)).status]).toEqual([verb, 200]);
    expect(at(lastOf("a1", "start"), "inlineConfig")).toEqual(changed);
    expect(at(lastOf("a1", "start"), "resolvedEnv")).toMatchObject(changed.env);
  }
  const shown = await api(entry, "GET", "/api/v1/agents");
  expect(shown.get("agents.0.appliedConfig")).toEqual(patched.get("appliedConfig"));
  expect((await api(owner, "GET", `/api/v1/agents/${agent}`)).get("appliedConfig")).toEqual(
    patched.get("appliedConfig"),
  );

  // Without a key, and prepared only; then taken up with another task.
  const prepared = { name: "a2", provisionOnly: true, config: configWith("prepared") };
  expect((await api(owner, "POST", "/api/v1/agents", { ...prepared, projectId: project })).status).toBe(201);
  expect((await api(owner, "POST", agents(), { name: "a2", task: "go on" })).status).toBe(200);
  expect(at(lastOf("a2", "start"), "inlineConfig")).toEqual(prepared.config);
  expect(at(lastOf("a2", "start"), "task")).toBe("go on");
  // Deleted, its row stays for a while.
  await api(owner, "POST", agents(), { name: "a3", task: "wait", config: configWith("deleted") });
  expect((await api(entry, "DELETE", `${agents()}/a3`)).status).toBe(204);

  const url = () => `https://someone:${secret("clone")}@git.example.org/o/r.git`;
  const labels = () => ({ "scion.dev/clone-url": url(), "scion.dev/source-url": url() });
  const cloned = await api(entry, "POST", "/api/v1/projects", { name: "cloned", gitRemote: url(), labels: labels() });
  expect(cloned.get("gitRemote")).toBe("git.example.org/o/r");
  await api(entry, "PATCH", `/api/v1/projects/${cloned.text("id")}`, { labels: labels() });
  const clones = await api(entry, "POST", `/api/v1/projects/${cloned.text("id")}/agents`, { name: "a4", task: "x" });
  expect(clones.status).toBe(201);
  expect(at(lastOf("a4"), "config", "gitClone", "url")).toBe("https://git.example.org/o/r.git");
  await api(owner, "POST", "/api/v1/projects/register", {
    name: "registered",
    gitRemote: `${url()}x`,
    labels: labels(),
  });

  const rows = await dumpOf(scene.database);
  expect(secrets.length).toBeGreaterThan(30);
  expect(
    secrets.flatMap((value) =>
      rows.flatMap(({ table, text }) => (holdsSecret(text, value) ? `${value} in ${table}` : [])),
    ),
  ).toEqual([]);
  expect(rows.filter(({ table }) => table === "agent_config_values")).toHaveLength(4);
});

test("sealed values that are damaged, or another agent's, stop a start with the reason; lists and the agent itself are shown without them", async () => {
  const config = configWith("damaged");
  const made = await api(entry, "POST", agents(), { name: "a1", task: "wait", config });
  const other = await api(entry, "POST", agents(), { name: "a2", task: "wait", config: configWith("other") });
  const [id, from] = [made.text("agent.id"), other.text("agent.id")];
  const [sealed] = await stored("inlineConfig", id);
  const put = (value: Buffer | undefined) =>
    scene.database.query("update agent_config_values set value = $2 where agent_id = $1", [id, value]);
  const [foreign] = await stored("inlineConfig", from);
  const act = (verb: string) => api(entry, "POST", `/api/v1/agents/${id}/${verb}`);

  for (const value of [Buffer.of(), Buffer.from("nonsense"), sealed?.value.subarray(0, 90), foreign?.value]) {
    await put(value);
    const starts = machine.received.length;
    // It runs, and goes on running: nothing was asked of its runtime broker.
    const restarted = await act("restart");
    expect([restarted.status, restarted.get("error.code")]).toEqual([409, "invalid_state"]);
    expect(restarted.text("error.message")).toContain("cannot be decrypted");
    expect(machine.received.length).toBe(starts);
    const listed = await api(entry, "GET", agents());
    expect([listed.status, listed.list("agents").length]).toEqual([200, 2]);
    const found = listed
      .list("agents")
      .map((a) => [Reflect.get(Object(a), "slug"), Reflect.get(Object(a), "appliedConfig")]);
    expect(Object.fromEntries(found)).toMatchObject({ a1: { task: "wait" }, a2: { inlineConfig: expect.anything() } });
    const single = await api(entry, "GET", `/api/v1/agents/${id}`);
    expect([single.status, single.get("phase"), single.get("appliedConfig.inlineConfig")]).toEqual([
      200,
      "running",
      undefined,
    ]);
  }
  expect((await act("stop")).status).toBe(200);
  const refused = await act("start");
  expect([refused.status, refused.get("error.code")]).toEqual([409, "invalid_state"]);
  expect((await api(owner, "GET", `/api/v1/agents/${id}`)).get("phase")).toBe("stopped");
  await scene.database.query("delete from agent_config_values where agent_id = $1", [id]);
  expect((await act("start")).status).toBe(409);

  // Given anew, it starts.
  const anew = configWith("anew");
  expect((await api(entry, "PATCH", `/api/v1/agents/${id}`, { config: anew })).status).toBe(200);
  expect((await act("start")).status).toBe(200);
  expect(at(lastOf("a1", "start"), "inlineConfig")).toEqual(anew);
});

test("a configuration that changes while its agent is about to start goes with the start whole, or not at all", async () => {
  const before = { image: "first", env: { FIRST: secret("before") } };
  const made = await api(entry, "POST", agents(), { name: "a1", task: "wait", config: before });
  const path = `/api/v1/agents/${made.text("agent.id")}`;
  const keeper = new pg.Client({ connectionString: scene.database.url });
  await keeper.connect();
  const waiting = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
  const waitFor = (n: number) => eventually(async () => (await scene.database.query(waiting)).length === n);
  try {
    for (const [replica, verb] of [
      [owner, "start"],
      [entry, "start"],
      [owner, "resume"],
    ] as const) {
      expect((await api(owner, "POST", `${path}/${verb === "start" ? "stop" : "suspend"}`)).status).toBe(200);
      const config = { image: `of ${verb}`, env: { SECOND: secret("meanwhile") } };
      await keeper.query("begin");
      await keeper.query("select from agents for no key update");
      const changed: Promise<ApiReply> = api(entry, "PATCH", path, { config });
      await waitFor(1);
      const started: Promise<ApiReply> = api(replica, "POST", `${path}/${verb}`);
      await waitFor(2);
      await keeper.query("commit");
      expect([(await changed).status, (await started).status]).toEqual([200, 200]);
      const sent = lastOf("a1", "start");
      expect(at(sent, "inlineConfig")).toEqual(config);
      expect(at(sent, "resolvedEnv")).toMatchObject(config.env);
      expect(at(sent, "resolvedEnv")).not.toHaveProperty("FIRST");
    }
  } finally {
    await keeper.end();
  }
});
