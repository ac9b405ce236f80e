import { expect, test } from "@jest/globals";
import { type Clock, systemClock, systemRandom } from "@rootstock/service";
import { SignJWT } from "jose";
import { originalKeys, type RootSecrets } from "../secrets/index.ts";
import { TokenError } from "./jwt.ts";
import { ReplicaTokens } from "./replicaTokens.ts";
import { SigningKeys } from "./signingKeys.ts";
import { AgentTokens, FixedToken } from "./tokens.ts";

const secret = "0123456789abcdef0123456789abcdef";
const at = (now: number): Clock => ({ ...systemClock, now: () => now });
const NOW = 1_795_227_448_500;
const newer = "fedcba9876543210fedcba9876543210";
const tokens = (now = NOW, secrets: RootSecrets = [secret]) =>
  new AgentTokens(secrets, { clock: at(now), random: systemRandom });
const agentKey = (of = secret) => originalKeys([of], "agent_signing_key")[0].key;
const claims = {
  agentId: "64ba541e-6d8b-48eb-8e84-265231b5f4b5",
  projectId: "f8ff6467-eeb0-4168-895e-3e16732f561a",
  scopes: ["agent:status:update"],
  ancestry: ["be67fbc9-c869-5d43-b15d-c28ca3e8d355"],
  tokenVersion: 3,
};
const payloadOf = (token: string): Record<string, unknown> =>
  JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString());

test("an agent's token carries the claims that its tools read, whole seconds, and lasts ten hours", async () => {
  const { token, expiresAt } = await tokens().issue(claims);
  const payload = payloadOf(token);
  expect(payload).toMatchObject({
    iss: "scion-hub",
    sub: claims.agentId,
    aud: "scion-hub-api",
    iat: 1_795_227_448,
    nbf: 1_795_227_448,
    exp: 1_795_227_448 + 36_000,
    project_id: claims.projectId,
    scopes: claims.scopes,
    ancestry: claims.ancestry,
  });
  expect(Buffer.from(String(payload.jti), "base64url")).toHaveLength(16);
  expect(expiresAt.getTime()).toBe((1_795_227_448 + 36_000) * 1000);
  expect(await tokens().verify(token)).toEqual({ ...claims, until: (1_795_227_448 + 36_000) * 1000 });
});

test("a token of the original, without version, counts as version 1", async () => {
  const original = await new SignJWT({ project_id: claims.projectId, scopes: claims.scopes })
    .setProtectedHeader({ alg: "HS256", typ: "JWT" })
    .setIssuer("scion-hub")
    .setSubject(claims.agentId)
    .setAudience(["scion-hub-api"])
    .setExpirationTime(NOW / 1000 + 10)
    .sign(agentKey());
  expect(await tokens(NOW, [newer, secret]).verify(original)).toMatchObject({
    agentId: claims.agentId,
    tokenVersion: 1,
  });
});

test("whoever a token names in its ancestry by anything but an id is nobody", async () => {
  const [known = ""] = claims.ancestry;
  const ancestry = ["x y", known.toUpperCase(), "\u0000", 7, null, "'; select 1"];
  const { token } = await tokens().issue({ ...claims, ancestry: ancestry.map(String) });
  expect((await tokens().verify(token)).ancestry).toEqual([known]);
});

test("a token is refused after its time and a minute of leeway, and before it", async () => {
  const { token } = await tokens().issue(claims);
  await expect(tokens(NOW + 36_059_000).verify(token)).resolves.toBeDefined();
  await expect(tokens(NOW + 36_062_000).verify(token)).rejects.toThrow("token expired");
  await expect(tokens(NOW - 62_000).verify(token)).rejects.toThrow(TokenError);
});

test.each([
  ["another key", () => new SignJWT().setProtectedHeader({ alg: "HS256" }), "x".repeat(32)],
  ["another algorithm", () => new SignJWT().setProtectedHeader({ alg: "HS512" }), undefined],
])("a token with %s is refused", async (_, make, key) => {
  const token = await make()
    .setIssuer("scion-hub")
    .setSubject(claims.agentId)
    .setAudience("scion-hub-api")
    .setExpirationTime(NOW / 1000 + 10)
    .sign(key ? Buffer.from(key) : Buffer.concat([agentKey().export(), agentKey().export()]));
  await expect(tokens().verify(token)).rejects.toThrow(TokenError);
});

test.each(["", "a.b.c", "not a token", `${Buffer.from('{"alg":"none"}').toString("base64url")}.e30.`])(
  "%j is no token",
  async (text) => {
    await expect(tokens().verify(text)).rejects.toThrow(TokenError);
  },
);

const headerOf = (token: string): Record<string, unknown> =>
  JSON.parse(Buffer.from(token.split(".")[0] ?? "", "base64url").toString());

test("a new secret in front: tokens of the former one stay valid until that one goes, and new ones are the new one's", async () => {
  const { token: before } = await tokens().issue(claims);
  const { token: after } = await tokens(NOW, [newer, secret]).issue(claims);
  expect(headerOf(after).kid).not.toBe(headerOf(before).kid);
  for (const secrets of [
    [newer, secret],
    [secret, newer],
  ] as const) {
    expect(await tokens(NOW, secrets).verify(before)).toMatchObject(claims);
    expect(await tokens(NOW, secrets).verify(after)).toMatchObject(claims);
  }
  expect(await tokens(NOW, [newer]).verify(after)).toMatchObject(claims);
  await expect(tokens(NOW, [newer]).verify(before)).rejects.toThrow("signature verification failed");
});

test("a kid names a key and proves nothing: with another key's name a token is refused, with an unknown one keys are tried", async () => {
  const made = (kid: string) =>
    new SignJWT()
      .setProtectedHeader({ alg: "HS256", typ: "JWT", kid })
      .setIssuer("scion-hub")
      .setSubject(claims.agentId)
      .setAudience("scion-hub-api")
      .setExpirationTime(NOW / 1000 + 10)
      .sign(agentKey());
  const both = tokens(NOW, [newer, secret]);
  const { token: ofNewer } = await both.issue(claims);
  await expect(both.verify(await made(String(headerOf(ofNewer).kid)))).rejects.toThrow("signature");
  expect(await both.verify(await made("of a bridge"))).toMatchObject({ agentId: claims.agentId });
});

const replicaOf =
  (older: boolean, secrets: RootSecrets = [secret]) =>
  (instanceId: string, now = NOW) =>
    new ReplicaTokens({
      secrets,
      signingKeys: new SigningKeys(secrets),
      instanceId,
      clock: at(now),
      olderReplicas: () => older,
    });

test.each([false, true])(
  "what a replica shows another is good there alone, and for 30 seconds, however often it was shown (older replicas: %s)",
  async (older) => {
    const [a, b, c] = [systemRandom.uuid(), systemRandom.uuid(), systemRandom.uuid()];
    const token = await replicaOf(older)(a).issue(b);
    let now = NOW;
    const there = new ReplicaTokens({
      secrets: [secret],
      signingKeys: new SigningKeys([secret]),
      instanceId: b,
      clock: { ...systemClock, now: () => now },
      olderReplicas: () => older,
    });
    expect(await there.verify(token)).toBe(a);
    now += 28_000;
    expect(await there.verify(token)).toBe(a);
    // And what clocks may differ by.
    now += 64_000;
    await expect(there.verify(token)).rejects.toThrow(TokenError);
    await expect(replicaOf(older)(c).verify(token)).rejects.toThrow(TokenError);
    await expect(replicaOf(older)(a).verify(token)).rejects.toThrow(TokenError);
  },
);

test("replicas of the former release are shown tokens that they can read, and theirs are read", async () => {
  const [a, b] = [systemRandom.uuid(), systemRandom.uuid()];
  const [former, present] = [replicaOf(true), replicaOf(false)];
  const [oldToken, newToken] = [await former(a).issue(b), await present(a).issue(b)];
  expect([headerOf(oldToken).alg, headerOf(newToken).alg]).toEqual(["HS256", "EdDSA"]);
  for (const token of [oldToken, newToken]) expect(await present(b).verify(token)).toBe(a);
  for (const token of [oldToken, newToken]) {
    expect(await replicaOf(false, [newer, secret])(b).verify(token)).toBe(a);
    await expect(replicaOf(false, [newer])(b).verify(token)).rejects.toThrow(TokenError);
  }
});

test.each([
  ["HS256 under a shared key", true],
  ["a public key's", false],
])("a replica's token, signature %s, is good at the replica that it names, for seconds", async (_, older) => {
  const replica = replicaOf(older);
  const [a, b, c] = [systemRandom.uuid(), systemRandom.uuid(), systemRandom.uuid()];
  const token = await replica(a).issue(b);
  expect(await replica(b).verify(token)).toBe(a);
  await expect(replica(c).verify(token)).rejects.toThrow(TokenError);
  await expect(replica(b, NOW + 100_000).verify(token)).rejects.toThrow("token expired");
  const { token: agents } = await tokens().issue(claims);
  await expect(replica(b).verify(agents)).rejects.toThrow(TokenError);
});

test("a fixed token matches itself only", () => {
  const token = new FixedToken("scion_dev_abc");
  expect(token.matches("scion_dev_abc")).toBe(true);
  expect(token.matches("scion_dev_abd")).toBe(false);
  expect(token.matches("")).toBe(false);
});
