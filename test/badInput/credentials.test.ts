import { expect, test } from "@jest/globals";
import { AGENT_TOKEN_HEADER, AgentTokens, REPLICA_TOKEN_HEADER } from "@rootstock/hub";
import { signatureHeaders } from "@rootstock/protocol";
import { systemClock, systemRandom } from "@rootstock/service";
import { api, sampleOf, TEST_SECRET, TEST_TOKEN } from "@rootstock/testkit";
import { KeptWorld } from "./keptWorld.ts";
import { forEach, name, nobody, nothing, parametersOf, pathOf, problemsOf } from "./world.ts";

/**
 * Credentials of every kind that prove nothing, or not enough, at every declared route.
 */

const world = new KeptWorld();

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

test("credentials that prove nothing: 401, at every route that asks for any", async () => {
  const past = { ...systemClock, now: () => systemClock.now() - 11 * 3_600_000 };
  const expired = await new AgentTokens([TEST_SECRET], { clock: past, random: systemRandom }).issue({
    agentId: world.now.agentId,
    projectId: world.now.projectId,
    scopes: [],
    ancestry: [],
    tokenVersion: 1,
  });
  const foreign = await new AgentTokens(["another secret of at least 32 bytes"], {
    clock: systemClock,
    random: systemRandom,
  }).issue({ agentId: world.now.agentId, projectId: world.now.projectId, scopes: [], ancestry: [], tokenVersion: 1 });
  const [head = "", , signature = ""] = world.now.agentToken.split(".");
  const forged = `${head}.${Buffer.from(JSON.stringify({ sub: world.now.agentId })).toString("base64url")}.${signature}`;
  const unsigned = `${Buffer.from('{"alg":"none"}').toString("base64url")}.${world.now.agentToken.split(".")[1]}.`;
  const credentials: readonly Readonly<Record<string, string>>[] = [
    { authorization: "" },
    { authorization: "Basic dXNlcjpwYXNz" },
    { authorization: "Bearer" },
    bearer("scion_dev_wrong"),
    bearer(`${TEST_TOKEN}0`),
    bearer("scion_pat_nothing"),
    bearer("nonsense"),
    bearer("a.b.c"),
    bearer("x".repeat(8_000)),
    ...[expired.token, foreign.token, forged, unsigned, world.now.deletedToken].flatMap((token) => [
      bearer(token),
      { ...bearer(TEST_TOKEN), [AGENT_TOKEN_HEADER]: token },
    ]),
    { ...bearer(TEST_TOKEN), [AGENT_TOKEN_HEADER]: TEST_TOKEN },
    { ...bearer(TEST_TOKEN), [REPLICA_TOKEN_HEADER]: world.now.agentToken },
    { ...bearer(TEST_TOKEN), "x-scion-broker-id": "nonsense" },
    { ...bearer(TEST_TOKEN), "x-scion-broker-id": world.now.runtimeBroker.id },
  ];
  const found = await forEach(
    world.now.routes.filter((r) => r.access.name !== "anyone"),
    async (route) => {
      const path = nothing(route);
      const problems: string[] = [];
      for (const headers of credentials) {
        const reply = await api(world.now.replica, route.method, path, undefined, { headers });
        const what = `${name(route, path)} ${JSON.stringify(headers).slice(0, 80)}`;
        problems.push(...problemsOf(what, reply, () => reply.status === 401));
      }
      return problems;
    },
  );
  expect(found).toEqual([]);
  await world.unharmed();
}, 180_000);

test("an agent of another project reaches nothing", async () => {
  const ids = { projectId: world.now.projectId, agentId: world.now.agentId };
  const within = world.now.routes.filter((r) => parametersOf(r).some((p) => p in ids));
  const found = await forEach(within, async (route) => {
    const path = pathOf(route, ids, nobody);
    const raw = route.body && JSON.stringify(sampleOf(route.body));
    const headers = { authorization: "", [AGENT_TOKEN_HEADER]: world.now.strangerToken };
    const reply = await api(world.now.replica, route.method, path, undefined, {
      headers,
      ...(raw !== undefined && { raw }),
    });
    return problemsOf(name(route, path), reply, () => [400, 403, 404, 501].includes(reply.status));
  });
  expect(found).toEqual([]);
  await world.unharmed();
});

test("signatures of runtime brokers: wrong, replayed, skewed, for another call", async () => {
  const path = `/api/v1/runtime-brokers/${world.now.runtimeBroker.id}/heartbeat`;
  const raw = '{"status":"online"}';
  const signed = (p: { seconds?: number; body?: string; path?: string; method?: string; secret?: Buffer } = {}) =>
    signatureHeaders({
      brokerId: world.now.runtimeBroker.id,
      secret: p.secret ?? Buffer.from(world.now.runtimeBroker.verifyingKeys[0] ?? "", "base64"),
      method: p.method ?? "POST",
      path: p.path ?? path,
      query: "",
      body: Buffer.from(p.body ?? raw),
      now: systemClock.now() + (p.seconds ?? 0) * 1000,
      nonce: systemRandom.bytes(16),
    });
  const beat = (headers: Readonly<Record<string, string>>) =>
    api(world.now.replica, "POST", path, undefined, { raw, headers: { authorization: "", ...headers } });
  const good = signed();
  expect((await beat(good)).status).toBe(200);
  const tries: readonly Readonly<Record<string, string>>[] = [
    good,
    signed({ seconds: -301 }),
    signed({ seconds: 302 }),
    signed({ body: "{}" }),
    signed({ method: "PUT" }),
    signed({ path: "/api/v1/runtime-brokers" }),
    signed({ secret: Buffer.alloc(32) }),
    { ...signed(), "X-Scion-Signature": "" },
    { ...signed(), "X-Scion-Signature": "=".repeat(500) },
    { ...signed(), "X-Scion-Nonce": "" },
    { ...signed(), "X-Scion-Nonce": "n".repeat(5_000) },
    { ...signed(), "X-Scion-Timestamp": "now" },
    { ...signed(), "X-Scion-Timestamp": "1e9" },
    { ...signed(), "X-Scion-Broker-ID": nobody },
    { ...signed(), "X-Scion-Signed-Headers": "a b;ü;:;;" },
    { ...signed(), "X-Scion-Signed-Headers": "h;".repeat(100) },
  ];
  for (const headers of tries) {
    const reply = await beat(headers);
    expect([headers, reply.status, reply.get("error.code")]).toEqual([headers, 401, "broker_auth_failed"]);
  }
  await world.unharmed();
});
