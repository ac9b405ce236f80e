import { expect, test } from "@jest/globals";
import { type AttachOptions, api, eventually, Scene, SimulatedTerminals, TerminalClient } from "@rootstock/testkit";
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
    await runtimeBroker.stop();
  } finally {
    await owner.stop();
  }
});
