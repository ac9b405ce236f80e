import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { signatureHeaders } from "@rootstock/protocol";
import { systemClock, systemRandom } from "@rootstock/service";
import { api, type InProcessReplica, Scene, TEST_TOKEN } from "@rootstock/testkit";

/** Weak point 10 of spec/03: the header that names a runtime broker skips nothing, and nonces count everywhere, for who signs. */

let scene: Scene;
let a: InProcessReplica;
let b: InProcessReplica;
let id: string;
let secret: Buffer;
beforeAll(async () => {
  scene = await Scene.create();
  [a, b] = [await scene.replica(), await scene.replica()];
  const credentials = await scene.join(a, "machine");
  id = credentials.brokerId;
  secret = Buffer.from(credentials.secretKey, "base64");
});
afterAll(() => scene.end());

const PATH = "/api/v1/broker/projects";
const signed = (nonce = systemRandom.bytes(16), key = secret, path = PATH): Record<string, string> =>
  signatureHeaders({
    brokerId: id,
    secret: key,
    method: "GET",
    path,
    query: "",
    body: new Uint8Array(0),
    now: systemClock.now(),
    nonce,
  });
const get = async (replica: InProcessReplica, path: string, headers: Readonly<Record<string, string>>) =>
  (await api(replica, "GET", path, undefined, { headers: { authorization: "", ...headers } })).status;

test("weak point 10: a nonce counts only with a good signature, and then at every replica", async () => {
  const nonce = systemRandom.bytes(16);
  // Whoever has seen a nonce, or guesses one, cannot use it up for the machine that signs with it.
  for (const replica of [a, b]) expect(await get(replica, PATH, signed(nonce, systemRandom.bytes(32)))).toBe(401);
  const good = signed(nonce);
  expect(await get(a, PATH, good)).toBe(200);
  for (const replica of [a, b]) expect(await get(replica, PATH, good)).toBe(401);
  // The same at once at both: one gets through.
  const once = signed();
  const both = await Promise.all([a, b].map((replica) => get(replica, PATH, once)));
  expect(both.sort()).toEqual([200, 401]);
});

test("weak point 10: naming a runtime broker skips no check, whatever else is shown", async () => {
  const unsigned = { "x-scion-broker-id": id };
  const beside = { ...unsigned, authorization: `Bearer ${TEST_TOKEN}` };
  for (const path of [PATH, "/api/v1/projects", "/api/v1/agents", "/api/v1/admin/audit", "/metrics", "/nowhere"])
    for (const headers of [unsigned, beside, { ...signed(undefined, systemRandom.bytes(32), path) }])
      expect([path, await get(a, path, headers)]).toEqual([path, 401]);
});
