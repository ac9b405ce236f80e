import { expect, test } from "@jest/globals";
import {
  ApiReply,
  type AttachOptions,
  api,
  eventually,
  LogClient,
  Scene,
  SimulatedTerminals,
  TerminalClient,
} from "@rootstock/testkit";
import { WebSocket } from "ws";
import { refusal, Stages, WAYS } from "./stage.ts";

/** Who may look at a terminal, and for how long (spec/08 1.6). */

const stages = new Stages();

test("preflight and upgrade answer alike: 200, 401, 403, 404, 422, 503", async () => {
  const s = await stages.stage();
  const { scene } = stages;
  const path = (agent: string) => `/api/v1/agents/${agent}/pty?cols=80&rows=24`;
  for (const where of WAYS) {
    const good = await api(s[where], "GET", path(s.agent));
    expect([good.status, good.get("path")]).toEqual([200, "broker"]);
  }
  await scene.database.query("insert into runtime_brokers (id, name, slug) values (gen_random_uuid(), 'off', 'off')");
  const [{ id: away } = {}] = await scene.database.query<{ id: string }>(
    "select id from runtime_brokers where name = 'off'",
  );
  const copy = async (slug: string, runtimeBrokerId: string | null): Promise<string> => {
    const [row] = await scene.database.query<{ id: string }>(
      `insert into agents (id, project_id, slug, name, phase, runtime_broker_id)
       select gen_random_uuid(), project_id, $1, $1, 'running', $2 from agents limit 1 returning id`,
      [slug, runtimeBrokerId],
    );
    return row?.id ?? "";
  };
  const homeless = await copy("homeless", null);
  const offline = await copy("offline", away ?? null);
  const cases: readonly [string, AttachOptions, number, string][] = [
    [s.agent, { token: null }, 401, "unauthorized"],
    [s.agent, { token: `scion_dev_${"00".repeat(32)}` }, 401, "unauthorized"],
    ["00000000-0000-4000-8000-000000000000", {}, 404, "not_found"],
    [homeless, {}, 422, "no_runtime_broker"],
    [offline, {}, 503, "runtime_broker_unavailable"],
  ];
  for (const [agent, options, status, code] of cases) {
    const asked = await fetch(`${s.entry.url}${path(agent)}`, {
      headers:
        options.token === null ? {} : { authorization: `Bearer ${options.token ?? `scion_dev_${"ab".repeat(32)}`}` },
    });
    expect([asked.status, JSON.parse(await asked.text()).error.code]).toEqual([status, code]);
    const refused = await refusal(s.entry, agent, options);
    expect([refused.status, JSON.parse(refused.body).error.code]).toEqual([status, code]);
  }
  const refused = await refusal(s.entry, offline);
  expect(JSON.parse(refused.body).error.details.reason).toBe("broker_not_connected");
  const own = await fetch(`${s.entry.url}${path(s.agent)}`, {
    headers: s.runtimeBroker.sign("GET", `/api/v1/agents/${s.agent}/pty`, "cols=80&rows=24", Buffer.alloc(0)),
  });
  expect(own.status).toBe(403);
});

test("of several agents with one name none is meant: 409", async () => {
  const s = await stages.stage();
  await stages.scene.database.query(
    `with other as (insert into projects (id, name, slug) values (gen_random_uuid(), 'other', 'other') returning id)
     insert into agents (id, project_id, slug, name) select gen_random_uuid(), other.id, a.slug, a.name
       from agents a, other where a.id = $1`,
    [s.agent],
  );
  const asked = await api(s.entry, "GET", "/api/v1/agents/a1/pty");
  expect([asked.status, asked.get("error.code")]).toEqual([409, "conflict"]);
  expect((await refusal(s.entry, "a1")).status).toBe(409);
});

test.each([
  ["says that it has none", '{"attach": false}', "[]", undefined],
  ["says so of the agent's profile", null, '[{"name": "p1", "attach": false}]', "p1"],
])("no terminals on a runtime broker that %s, and it is told before an upgrade", async (_, said, profiles, profile) => {
  const s = await stages.stage();
  const { database } = stages.scene;
  const path = `/api/v1/agents/${s.agent}/pty?cols=80&rows=24`;
  await database.query("update agents set applied_config = jsonb_build_object('profile', 'p1') where id = $1", [
    s.agent,
  ]);
  expect((await api(s.entry, "GET", path)).status).toBe(200);
  await database.query("update runtime_brokers set capabilities = $2, profiles = $3 where id = $1", [
    s.runtimeBroker.id,
    said,
    profiles,
  ]);
  const asked = await api(s.entry, "GET", path);
  expect([asked.status, asked.get("error.code"), asked.get("error.details.reason")]).toEqual([
    503,
    "runtime_attach_unsupported",
    "agent_pty_unavailable",
  ]);
  expect((await refusal(s.entry, s.agent)).status).toBe(503);
  if (profile === undefined) return;
  // Another profile of the same runtime broker has them.
  await database.query("update agents set applied_config = jsonb_build_object('profile', 'p2') where id = $1", [
    s.agent,
  ]);
  expect((await api(s.entry, "GET", path)).status).toBe(200);
});

test("only replicas get at the internal streams", async () => {
  const { entry } = stages.replicas;
  const dial = async (headers: Record<string, string>) => {
    const ws = new WebSocket(`${entry.url.replace("http", "ws")}/internal/v1/streams`, { headers });
    ws.on("error", () => {});
    return new Promise((resolve) => {
      ws.once("unexpected-response", (_, response) => {
        resolve(response.statusCode);
        ws.terminate();
      });
      ws.once("open", () => resolve(101));
    });
  };
  expect(await dial({})).toBe(401);
  expect(await dial({ authorization: `Bearer scion_dev_${"ab".repeat(32)}` })).toBe(403);
  expect(await dial({ "x-rootstock-replica-token": "a.b.c" })).toBe(401);
});

test("time limits: an idle terminal and one that is open for too long are closed, with the reason", async () => {
  const scene = await Scene.create(stages.scene.database);
  const limited = { ROOTSTOCK_TERMINAL_IDLE: "1s", ROOTSTOCK_TERMINAL_LIMIT: "3s" };
  const owner = await scene.replica(limited);
  try {
    const runtimeBroker = await scene.runtimeBroker(owner);
    const terminals = new SimulatedTerminals(runtimeBroker);
    const agent = await scene.agent(owner, await scene.project(owner, "limits"), "a1", runtimeBroker.id);
    const [idle, busy] = [await TerminalClient.attach(owner, agent), await TerminalClient.attach(owner, agent)];
    const terminal = await terminals.nth(1);
    let over = false;
    void busy.closed.then(() => {
      over = true;
    });
    const keepBusy = eventually(() => {
      if (!over) terminal.print(".");
      return over;
    });
    expect(await idle.closed).toEqual({ code: 4408, reason: "idle_timeout" });
    expect(idle.errors.map((e) => e.code)).toEqual(["timeout"]);
    expect(await busy.closed).toEqual({ code: 4408, reason: "time_limit" });
    await keepBusy;
    const followed = await LogClient.follow(owner, agent);
    if (followed instanceof ApiReply) throw new Error(followed.body);
    expect(await followed.ended).toBe(true);
    expect(followed.others).toEqual([{ event: "timeout", data: {} }]);
    await runtimeBroker.stop();
  } finally {
    await owner.stop();
  }
});
