import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { AGENT_TOKEN_HEADER } from "@rootstock/hub";
import { api, type InProcessReplica, Scene, type SimulatedRuntimeBroker } from "@rootstock/testkit";
import { WebSocket } from "ws";

/** What the tools inside containers do: late reports of runs that are over, and sockets that wait for better days. */

let scene: Scene;
let replica: InProcessReplica;
let runtimeBroker: SimulatedRuntimeBroker;
let project: string;

beforeEach(async () => {
  scene = await Scene.create();
  replica = await scene.replica();
  project = await scene.project(replica);
  runtimeBroker = await scene.runtimeBroker(replica);
});
afterEach(() => scene.end());

const post = (path: string, body?: object, token?: string) =>
  api(replica, "POST", path, body, token ? { headers: { authorization: "", [AGENT_TOKEN_HEADER]: token } } : {});

const phase = async (agent: string) => (await api(replica, "GET", `/api/v1/agents/${agent}`)).get("phase");

/** The tokens that containers were started with, in order. */
const tokens = (): string[] =>
  runtimeBroker.received.flatMap(({ json }) => {
    const token = Reflect.get(Object(json), "agentToken");
    const started = Reflect.get(Object(Reflect.get(Object(json), "resolvedEnv")), "SCION_AUTH_TOKEN");
    return [token, started].filter((t) => typeof t === "string");
  });

test("a late running report does not revive a stopped agent, and a late stopped report does not end the next run", async () => {
  const agent = await scene.agent(replica, project, "a1");
  const status = `/api/v1/agents/${agent}/status`;
  const [first = ""] = tokens();
  const running = { phase: "running", activity: "working" };
  expect((await post(status, running, first)).json).toEqual({ applied: true });
  const refreshed = (await post(`/api/v1/agents/${agent}/token/refresh`, undefined, first)).text("token");

  expect((await post(`/api/v1/agents/${agent}/stop`)).status).toBe(200);
  for (const token of [first, refreshed]) {
    expect((await post(status, running, token)).json).toMatchObject({ applied: false });
    expect((await post(status, { activity: "working" }, token)).status).toBe(200);
  }
  expect(await phase(agent)).toBe("stopped");

  expect((await post(`/api/v1/agents/${agent}/start`)).status).toBe(200);
  const [, second = ""] = tokens();
  expect(second).not.toBe("");
  expect((await post(status, { phase: "stopped" }, first)).json).toMatchObject({ applied: false });
  expect(await phase(agent)).toBe("running");
  expect((await post(status, running, second)).json).toEqual({ applied: true });
  expect((await post(status, { phase: "stopped" }, second)).json).toEqual({ applied: true });
  expect(await phase(agent)).toBe("stopped");
});

test("an agent's port tunnel is taken and left idle; others are refused", async () => {
  const agent = await scene.agent(replica, project, "a1");
  await scene.agent(replica, project, "a2");
  const [own = "", other = ""] = tokens();
  const dial = (headers: Record<string, string>, id = agent) =>
    new Promise<number>((resolve) => {
      const ws = new WebSocket(`${replica.url.replace("http", "ws")}/api/v1/agents/${id}/ports/tunnel`, { headers });
      scene.onEnd(async () => ws.terminate());
      ws.on("open", () => {
        ws.send("garbage");
        ws.on("pong", () => resolve(101));
        ws.ping();
      });
      ws.on("close", (code) => resolve(code));
      ws.on("unexpected-response", (_, response) => resolve(response.statusCode ?? 0));
      ws.on("error", () => {});
    });
  expect(await dial({ [AGENT_TOKEN_HEADER]: own })).toBe(101);
  expect(await dial({ [AGENT_TOKEN_HEADER]: other })).toBe(403);
  expect(await dial({ [AGENT_TOKEN_HEADER]: "nonsense" })).toBe(401);
  expect(await dial({})).toBe(401);
  expect(await dial({ [AGENT_TOKEN_HEADER]: own }, "a1")).toBe(404);
});
