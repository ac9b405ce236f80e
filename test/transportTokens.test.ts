import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { AGENT_TOKEN_HEADER } from "@rootstock/hub";
import { freePort, systemRandom } from "@rootstock/service";
import { api, type InProcessReplica, Scene, type SimulatedRuntimeBroker } from "@rootstock/testkit";
import { createRemoteJWKSet, jwtVerify } from "jose";

/** What lets agents through what stands before the hub (spec/03 1.2, 1.6): at create, at start, and with each refresh. */

const AUDIENCE = "https://hub.example.org";
const LOCAL = { ROOTSTOCK_TRANSPORT_MODE: "local", ROOTSTOCK_TRANSPORT_AUDIENCE: AUDIENCE };
let scene: Scene;
beforeEach(async () => {
  scene = await Scene.create();
});
afterEach(() => scene.end());

const lastEnv = (runtimeBroker: SimulatedRuntimeBroker): Readonly<Record<string, unknown>> => {
  const launches = runtimeBroker.received.filter((r) => Reflect.has(Object(r.json), "resolvedEnv"));
  return Object(Reflect.get(Object(launches.at(-1)?.json), "resolvedEnv"));
};
const setUp = async (env: Readonly<Record<string, string>>) => {
  const [owner, entry] = [await scene.replica(env), await scene.replica(env)];
  const project = await scene.project(owner);
  const runtimeBroker = await scene.runtimeBroker(owner);
  const agent = await scene.agent(owner, project, "a1");
  const launched = runtimeBroker.received.find((r) => Reflect.get(Object(r.json), "slug") === "a1");
  const own = String(Reflect.get(Object(launched?.json), "agentToken"));
  return { owner, entry, runtimeBroker, agent, own };
};
const refresh = (replica: InProcessReplica, agent: string, own: string, authorization = "") =>
  api(replica, "POST", `/api/v1/agents/${agent}/token/refresh`, undefined, {
    headers: { authorization, [AGENT_TOKEN_HEADER]: own },
  });

test("agents get a token that others verify with the hub's published keys, and a new one with each refresh", async () => {
  const { owner, entry, runtimeBroker, agent, own } = await setUp(LOCAL);
  const keys = createRemoteJWKSet(new URL(`${entry.url}/.well-known/jwks.json`));
  const check = async (token: unknown) => (await jwtVerify(String(token), keys, { audience: AUDIENCE })).payload;
  const atCreate = lastEnv(runtimeBroker);
  const { exp = 0 } = await check(atCreate.SCION_TRANSPORT_TOKEN);
  expect(atCreate).toMatchObject({
    SCION_TRANSPORT_AUDIENCE: AUDIENCE,
    SCION_TRANSPORT_TOKEN_EXPIRY: new Date(exp * 1000).toISOString().replace(".000Z", "Z"),
  });
  expect((await api(entry, "POST", `/api/v1/agents/${agent}/stop`)).status).toBe(200);
  expect((await api(entry, "POST", `/api/v1/agents/${agent}/start`)).status).toBe(200);
  await check(lastEnv(runtimeBroker).SCION_TRANSPORT_TOKEN);

  // Its tool sends it as `Authorization`, which is for whoever stands before the hub: not looked at here (spec/03 1.6).
  const reply = await refresh(entry, agent, own, `Bearer ${atCreate.SCION_TRANSPORT_TOKEN}`);
  expect(reply.status).toBe(200);
  expect(reply.get("tokens")).toEqual([
    { layer: "app", type: "scion_access", value: reply.text("token"), expiresIn: expect.any(Number) },
    {
      layer: "transport",
      type: "google_oidc",
      value: expect.any(String),
      expiresIn: expect.any(Number),
      audience: AUDIENCE,
    },
  ]);
  await check(reply.get("tokens.1.value"));
  // Alone it lets nobody in.
  const alone = await api(owner, "GET", "/api/v1/auth/me", undefined, { token: reply.text("tokens.1.value") });
  expect(alone.status).toBe(401);
});

test("an issuer that cannot be reached delays nobody and fails nothing: agents do without", async () => {
  const nobody = `http://127.0.0.1:${await freePort(systemRandom)}`;
  const { entry, runtimeBroker, agent, own } = await setUp({
    ROOTSTOCK_TRANSPORT_MODE: "iap",
    ROOTSTOCK_TRANSPORT_AUDIENCE: "client.apps.googleusercontent.com",
    ROOTSTOCK_TRANSPORT_SERVICE_ACCOUNT: "agents@p.iam.gserviceaccount.com",
    ROOTSTOCK_TRANSPORT_IAM_URL: nobody,
    ROOTSTOCK_TRANSPORT_METADATA_URL: nobody,
  });
  expect(lastEnv(runtimeBroker)).not.toHaveProperty("SCION_TRANSPORT_TOKEN");
  const reply = await refresh(entry, agent, own);
  expect([reply.status, reply.list("tokens").length]).toEqual([200, 1]);
});
