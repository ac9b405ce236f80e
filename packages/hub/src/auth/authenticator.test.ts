import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { HubError, signatureHeaders } from "@rootstock/protocol";
import { systemClock, systemRandom } from "@rootstock/service";
import { insertRuntimeBroker, transaction } from "@rootstock/store";
import { createTestStore, type TestStore, testBase } from "@rootstock/testkit";
import { SecretBox } from "../secrets/index.ts";
import { signInParts } from "./authenticator.testing.ts";
import {
  AgentTokens,
  Authenticator,
  type Credentials,
  DEVELOPMENT_USER,
  ReplicaTokens,
  RuntimeBrokerSecrets,
  RuntimeBrokerSignatures,
  SigningKeys,
} from "./index.ts";

const secret = "a shared secret of at least 32 bytes";
const developmentToken = `scion_dev_${"ab".repeat(32)}`;
const base = testBase();
const [instanceId, project, runtimeBrokerId] = [systemRandom.uuid(), systemRandom.uuid(), systemRandom.uuid()];
const agentTokens = new AgentTokens([secret], base);
const replicaTokens = (of: string) =>
  new ReplicaTokens({
    secrets: [secret],
    signingKeys: new SigningKeys([secret]),
    instanceId: of,
    clock: systemClock,
    olderReplicas: () => false,
  });
let store: TestStore;
let authenticator: Authenticator;
let signatures: RuntimeBrokerSignatures;
let key: Buffer;

beforeAll(async () => {
  store = await createTestStore();
  const secrets = new RuntimeBrokerSecrets(
    new SecretBox({ secrets: [secret], clock: systemClock, random: systemRandom }),
    base,
  );
  signatures = new RuntimeBrokerSignatures(store.db, secrets, systemClock);
  authenticator = new Authenticator({
    db: store.db,
    agentTokens,
    replicaTokens: replicaTokens(instanceId),
    signatures,
    ...signInParts(base, store.db),
    developmentToken,
    scrapeToken: "collector",
  });
  await Promise.all([authenticator.start(), authenticator.start()]);
  await store.query("insert into projects (id, name, slug) values ($1, 'p', 'p')", [project]);
  key = await transaction(store.db, async (tx) => {
    const row = { id: runtimeBrokerId, name: "m", slug: "m", autoProvide: false, labels: {}, createdBy: project };
    await insertRuntimeBroker(tx, row);
    return (await secrets.replace(tx, runtimeBrokerId, 0)).key;
  });
});

afterAll(() => store.drop());

const request = (headers: Readonly<Record<string, string>>): Credentials => ({
  method: "GET",
  path: "/api/v1/agents",
  query: "",
  headers: new Headers(headers),
  peer: "127.0.0.1",
  body: async () => new Uint8Array(0),
});
const who = (headers: Readonly<Record<string, string>>) => authenticator.authenticate(request(headers));
/** What a refusal says. */
const refusal = async (headers: Readonly<Record<string, string>>): Promise<string> => {
  try {
    return `accepted as ${(await who(headers)).kind}`;
  } catch (err) {
    if (!(err instanceof HubError)) throw err;
    return `${err.status} ${err.code}: ${err.message}`;
  }
};
const signed = (): Record<string, string> =>
  signatureHeaders({
    brokerId: runtimeBrokerId,
    secret: key,
    method: "GET",
    path: "/api/v1/agents",
    query: "",
    body: new Uint8Array(0),
    now: systemClock.now(),
    nonce: systemRandom.bytes(16),
  });
const agentToken = async (slug: string, claims: { tokenVersion?: number; projectId?: string } = {}) => {
  const agentId = systemRandom.uuid();
  await store.query("insert into agents (id, project_id, slug, name) values ($1, $2, $3, $3)", [
    agentId,
    project,
    slug,
  ]);
  const { token } = await agentTokens.issue({
    agentId,
    projectId: project,
    scopes: ["agent:status:update"],
    ancestry: [DEVELOPMENT_USER.id],
    tokenVersion: 1,
    ...claims,
  });
  return { agentId, token };
};

test("without credentials it is nobody", async () => {
  expect(await who({})).toEqual({ kind: "nobody" });
  expect(await who({ authorization: "Basic abc" })).toEqual({ kind: "nobody" });
  expect(await who({ authorization: "Bearer " })).toEqual({ kind: "nobody" });
});

test("the development token is the development user, whatever the scheme's case, and has a row", async () => {
  expect(await who({ authorization: `bEaReR ${developmentToken}` })).toEqual(DEVELOPMENT_USER);
  expect(await store.query("select email, role from users")).toEqual([{ email: "dev@localhost", role: "admin" }]);
});

test("the development user is as its row says, while that can be read: demoted, suspended, gone", async () => {
  const parts = signInParts(base, store.db);
  let away = false;
  const find = (id: string) =>
    away ? Promise.reject(Object.assign(new Error("away"), { code: "ECONNREFUSED" })) : parts.standings.find(id);
  const own = new Authenticator({
    db: store.db,
    agentTokens,
    replicaTokens: replicaTokens(instanceId),
    signatures,
    ...parts,
    standings: { find },
    developmentToken,
    scrapeToken: undefined,
  });
  const shown = () => own.authenticate(request({ authorization: `Bearer ${developmentToken}` }));
  const now = async (statement: string) => {
    await store.query(statement);
    parts.standings.forget(DEVELOPMENT_USER.id);
  };
  await own.start();
  away = true;
  expect(await shown()).toEqual(DEVELOPMENT_USER);
  away = false;
  await now("update users set role = 'viewer' where email = 'dev@localhost'");
  expect(await shown()).toMatchObject({ id: DEVELOPMENT_USER.id, role: "viewer" });
  await now("update users set role = 'admin', status = 'suspended' where email = 'dev@localhost'");
  await expect(shown()).rejects.toMatchObject({ status: 401, message: "the development user is suspended" });
  away = true;
  await expect(shown()).rejects.toMatchObject({ status: 401 });
  away = false;
  await now("delete from users where email = 'dev@localhost'");
  await expect(shown()).rejects.toMatchObject({ status: 401, message: "the development user is gone" });
  // With the next start it is there again.
  await own.start();
  parts.standings.forget(DEVELOPMENT_USER.id);
  expect(await shown()).toEqual(DEVELOPMENT_USER);
});

test("an agent's token, in its own header or as a bearer", async () => {
  const { agentId, token } = await agentToken("a1");
  const agent = {
    kind: "agent",
    id: agentId,
    projectId: project,
    scopes: ["agent:status:update"],
    ancestry: [DEVELOPMENT_USER.id],
    tokenVersion: 1,
    proof: { until: expect.any(Number) },
  };
  expect(await who({ "x-scion-agent-token": token })).toEqual(agent);
  expect(await who({ authorization: `Bearer ${token}` })).toEqual(agent);
});

test("an agent's token beats a signature, which beats a bearer; a foreign Authorization is not looked at", async () => {
  const { token } = await agentToken("a2");
  const foreign = { authorization: "Bearer ya29.google" };
  expect((await who({ "x-scion-agent-token": token, ...foreign, ...signed() })).kind).toBe("agent");
  expect(await who({ ...signed(), ...foreign })).toEqual({ kind: "runtimeBroker", id: runtimeBrokerId });
  expect((await who({ ...signed(), authorization: `Bearer ${developmentToken}` })).kind).toBe("runtimeBroker");
});

test("a replica and a collector", async () => {
  const from = systemRandom.uuid();
  const token = await replicaTokens(from).issue(instanceId);
  expect(await who({ "x-rootstock-replica-token": token })).toEqual({ kind: "replica", instanceId: from });
  expect(await who({ authorization: "Bearer collector" })).toEqual({ kind: "scraper" });
});

test.each<[string, Record<string, string>, string]>([
  ["an agent header", { "x-scion-agent-token": "x" }, "401 unauthorized: invalid agent token: malformed token"],
  [
    "an agent header beside a good bearer",
    { "x-scion-agent-token": "x", authorization: `Bearer ${developmentToken}` },
    "401 unauthorized: invalid agent token: malformed token",
  ],
  ["a bearer of no known shape", { authorization: "Bearer x" }, "401 unauthorized: unrecognized token format"],
  ["a JWT of nobody", { authorization: "Bearer a.b.c" }, "401 unauthorized: invalid access token: malformed token"],
  [
    "an access token",
    { authorization: "Bearer scion_pat_x" },
    "401 unauthorized: invalid access token: unknown, revoked or expired",
  ],
  ["a development token", { authorization: "Bearer scion_dev_x" }, "401 unauthorized: invalid development token"],
  ["a replica token", { "x-rootstock-replica-token": "x" }, "401 unauthorized: invalid replica token: malformed token"],
  [
    "a signature",
    { "x-scion-broker-id": "11111111-2222-4333-8444-555555555555" },
    "401 broker_auth_failed: missing X-Scion-Timestamp header",
  ],
])("%s that proves nothing is refused", async (_, headers, expected) => {
  expect(await refusal(headers)).toBe(expected);
});

test("where development login is off, its token is refused", async () => {
  const off = new Authenticator({
    db: store.db,
    agentTokens,
    replicaTokens: replicaTokens(instanceId),
    signatures: { verify: () => Promise.reject(new Error("not asked")) } as unknown as RuntimeBrokerSignatures,
    ...signInParts(base, store.db),
    developmentToken: undefined,
    scrapeToken: undefined,
  });
  await expect(off.authenticate(request({ authorization: `Bearer ${developmentToken}` }))).rejects.toThrow(
    "development authentication is not enabled",
  );
});

test("a good token of a deleted, unknown, moved or renewed agent proves nothing", async () => {
  const reason = async (token: string) => refusal({ "x-scion-agent-token": token });
  const deleted = await agentToken("a3");
  await store.query("update agents set deleted_at = now() where id = $1", [deleted.agentId]);
  expect(await reason(deleted.token)).toBe("401 unauthorized: invalid agent token: agent deleted");
  await store.query("delete from agents where id = $1", [deleted.agentId]);
  expect(await reason(deleted.token)).toBe("401 unauthorized: invalid agent token: agent deleted");
  const moved = await agentToken("a4", { projectId: systemRandom.uuid() });
  expect(await reason(moved.token)).toBe("401 unauthorized: invalid agent token: agent belongs to another project");
  const renewed = await agentToken("a5");
  await store.query("update agents set token_version = 2 where id = $1", [renewed.agentId]);
  expect(await reason(renewed.token)).toBe("401 unauthorized: invalid agent token: token revoked");
});

test("a signed request passes once: of many copies at one moment, at one replica and at another, and ever after", async () => {
  const secrets = new RuntimeBrokerSecrets(
    new SecretBox({ secrets: [secret], clock: systemClock, random: systemRandom }),
    base,
  );
  const elsewhere = new RuntimeBrokerSignatures(store.db, secrets, systemClock);
  const copies = Array.from({ length: 5 }, signed).map(request);
  const passed = async (replicas: readonly RuntimeBrokerSignatures[]): Promise<number[]> => {
    const outcomes = await Promise.all(
      copies.map((copy) => Promise.allSettled(replicas.map((replica) => replica.verify(copy)))),
    );
    return outcomes.map((o) => o.filter((one) => one.status === "fulfilled").length);
  };
  expect(await passed([signatures, elsewhere, signatures, elsewhere])).toEqual([1, 1, 1, 1, 1]);
  expect(await passed([elsewhere, signatures])).toEqual([0, 0, 0, 0, 0]);
});

test("a sealed secret that is put in another's place does not open, however often the right one did", async () => {
  const opened = () => refusal(signed());
  expect(await opened()).toBe("accepted as runtimeBroker");
  const [before] = await store.query<{ secret: Buffer }>("select secret from broker_secrets");
  await store.query("update broker_secrets set secret = set_byte(secret, 40, (get_byte(secret, 40) + 1) % 256)");
  expect(await opened()).toBe("401 broker_auth_failed: unknown runtime broker");
  await store.query("update broker_secrets set secret = $1", [before?.secret]);
  expect(await opened()).toBe("accepted as runtimeBroker");
});
