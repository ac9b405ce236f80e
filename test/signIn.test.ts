import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { type Account, eventually, IdentityProvider, type Replica, Scene } from "@rootstock/testkit";

/** People sign in at any replica, and are out at every replica. */

const AUDIENCE = "/projects/1/global/backendServices/2";
const IAP_HEADER = "x-goog-iap-jwt-assertion";
const ANN: Account = { sub: "1", email: "ann@example.org", name: "Ann" };
let scene: Scene;
let proxy: IdentityProvider;

beforeEach(async () => {
  scene = await Scene.create();
  proxy = await IdentityProvider.start();
  scene.onEnd(() => proxy.stop());
});
afterEach(() => scene.end());

const replicas = async (env: Readonly<Record<string, string>> = {}): Promise<readonly [Replica, Replica]> => {
  const behindIap = {
    ROOTSTOCK_IAP_AUDIENCE: AUDIENCE,
    ROOTSTOCK_IAP_ISSUER: proxy.issuer,
    ROOTSTOCK_IAP_JWKS_URL: proxy.jwksUrl,
    ...env,
  };
  return [await scene.replica(behindIap), await scene.replica(behindIap)];
};

const get = async (replica: Replica, path: string, headers: Readonly<Record<string, string>>) => {
  const answer = await fetch(`${replica.url}${path}`, { headers });
  const body: unknown = await answer.json();
  return { status: answer.status, body };
};
const assertion = async (account: Account) => ({ [IAP_HEADER]: await proxy.sign(account, AUDIENCE) });
const userId = async (email: string): Promise<unknown> =>
  (await scene.database.query("select id from users where email = $1", [email]))[0]?.id;

test("behind IAP everybody is who the assertion says, at whichever replica, from the first call on", async () => {
  const both = await replicas({ ROOTSTOCK_ADMIN_EMAILS: "root@example.org" });
  const first = await Promise.all(
    Array.from({ length: 20 }, async (_, i) => get(both[i % 2 === 0 ? 0 : 1], "/api/v1/auth/me", await assertion(ANN))),
  );
  const me = { id: await userId("ann@example.org"), email: "ann@example.org", displayName: "Ann", role: "member" };
  for (const answer of first) expect(answer).toEqual({ status: 200, body: me });
  const root = await get(both[1], "/api/v1/auth/me", await assertion({ sub: "2", email: "root@example.org" }));
  expect(root.body).toMatchObject({ role: "admin" });
  expect((await get(both[0], "/api/v1/auth/me", {})).status).toBe(401);
  const forged = { [IAP_HEADER]: `${(await proxy.sign(ANN, AUDIENCE)).slice(0, -8)}AAAAAAAA` };
  expect(await get(both[0], "/api/v1/auth/me", forged)).toMatchObject({
    status: 401,
    body: { error: { code: "unauthorized", message: expect.stringContaining("invalid proxy assertion") } },
  });
});

test("an assertion beside another credential is ignored and makes no account (spec/03 2.2)", async () => {
  const [replica] = await replicas();
  const stranger = await assertion({ sub: "9", email: "stranger@example.org" });
  const answer = await get(replica, "/api/v1/auth/me", { ...stranger, authorization: "Bearer nonsense" });
  expect(answer.status).toBe(401);
  expect(await userId("stranger@example.org")).toBeUndefined();
});

test("weak point 1: who is suspended is out within two seconds at every replica, open event streams included", async () => {
  const both = await replicas();
  const headers = await assertion(ANN);
  for (const replica of both) expect((await get(replica, "/api/v1/auth/me", headers)).status).toBe(200);
  const stream = await fetch(`${both[1].url}/events?sub=%3E`, { headers });
  const ended = stream.text();
  await scene.database.query("update users set status = 'suspended' where email = 'ann@example.org'");
  for (const replica of both)
    await eventually(async () => (await get(replica, "/api/v1/auth/me", headers)).status === 403, 2_000);
  expect((await get(both[0], "/api/v1/auth/me", headers)).body).toMatchObject({ error: { code: "user_suspended" } });
  await ended;
  await scene.database.query("update users set status = 'active' where email = 'ann@example.org'");
  for (const replica of both)
    await eventually(async () => (await get(replica, "/api/v1/auth/me", headers)).status === 200, 2_000);
});

test("weak point 28: a role is the row's at every call, so that a demotion counts at once", async () => {
  const both = await replicas({ ROOTSTOCK_ADMIN_EMAILS: "root@example.org" });
  const headers = await assertion({ sub: "2", email: "root@example.org" });
  for (const replica of both) expect((await fetch(`${replica.url}/metrics`, { headers })).status).toBe(200);
  await scene.database.query("update users set role = 'member'");
  for (const replica of both)
    await eventually(async () => (await fetch(`${replica.url}/metrics`, { headers })).status === 403, 2_000);
});
