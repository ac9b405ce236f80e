import { request } from "node:http";
import { expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import { transaction } from "@rootstock/store";
import { eventually } from "@rootstock/testkit";
import { rotateSecret } from "./controlPlane.testing.ts";
import { ControlScene, message } from "./controlScene.testing.ts";

/** The secrets that dials and requests are signed with (spec/01 2). */

const scene = new ControlScene();
const { plane: anotherPlane, dial, connected } = scene;

test("rotation: requests are signed with the key of the socket, then once with the former, which is kept in mind", async () => {
  const { plane, broker, credentials, connection } = await connected();
  const former = credentials.secretKey;
  const present = await rotateSecret(plane, credentials.brokerId, 0);
  // Registered anew while it runs: it dials with the new key and verifies with the old one until it restarts.
  await broker.stop();
  const { brokerId } = credentials;
  const again = dial({ brokerId, secretKey: present }, plane.url, { verifyingKeys: [former] });
  await again.connect();
  await eventually(() => plane.registry.get(credentials.brokerId)?.sessionId === again.session?.sessionId);
  const to = await connection();
  expect((await to.call(message("a"))).status).toBe(200);
  expect(again.received).toHaveLength(2);
  expect((await to.call(message("b"))).status).toBe(200);
  expect(again.received).toHaveLength(3);
  expect(again.delivered.map((d) => d.agent)).toEqual(["a", "b"]);
  // With no key that it accepts, the refusal is the answer.
  again.verifyingKeys = [];
  expect((await to.call(message("c"))).status).toBe(401);
});

test("rotation: during the grace both keys dial, after it only the new one", async () => {
  const { plane, broker, credentials } = await connected();
  await broker.stop();
  const present = await rotateSecret(plane, credentials.brokerId, 60_000);
  const answered = async (secretKey: string): Promise<number> => {
    const one = dial({ brokerId: credentials.brokerId, secretKey }, plane.url, { redials: false });
    const outcome = Promise.race([one.onSession.next().then(() => 101), one.onRefusedDial.next()]);
    void one.connect();
    const status = await outcome;
    await one.stop();
    return status;
  };
  expect([await answered(credentials.secretKey), await answered(present)]).toEqual([101, 101]);
  await scene.database.query("update broker_secrets set expires_at = now() where status = 'deprecated'");
  expect([await answered(credentials.secretKey), await answered(present)]).toEqual([401, 101]);
});

test("invariant 8: a dial replayed at another replica is refused", async () => {
  const { broker, credentials, plane } = await connected({ redials: false });
  const other = await anotherPlane();
  const path = "/api/v1/runtime-brokers/connect";
  const headers = {
    ...broker.sign("GET", path, "", Buffer.alloc(0)),
    connection: "Upgrade",
    upgrade: "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": systemRandom.bytes(16).toString("base64"),
  };
  expect(await upgrade(plane.url, path, headers)).toBe(101);
  expect(await upgrade(plane.url, path, headers)).toBe(401);
  expect(await upgrade(other.url, path, headers)).toBe(401);
  const { "X-Scion-Signature": _, ...unsigned } = headers as Record<string, string>;
  expect(await upgrade(other.url, path, unsigned)).toBe(401);
  expect(await upgrade(other.url, path, { ...headers, "sec-websocket-key": "short" })).toBe(400);
  const [nonces] = await scene.database.query<{ n: number }>(
    "select count(*)::int as n from seen_nonces where runtime_broker_id = $1",
    [credentials.brokerId],
  );
  // The first dial's and the replayed one's: nothing that failed to verify was recorded.
  expect(nonces?.n).toBe(2);
});

test("a secret in the database cannot be read without the shared secret", async () => {
  const { plane, credentials } = await connected();
  const rows = await transaction(plane.database.db, (tx) => tx.selectFrom("broker_secrets").select("secret").execute());
  expect(rows[0]?.secret.includes(Buffer.from(credentials.secretKey, "base64"))).toBe(false);
});

/** The status that an upgrade is answered with. */
const upgrade = async (url: string, path: string, headers: Record<string, string>): Promise<number> => {
  return new Promise((resolve, reject) => {
    const sent = request(`${url}${path}`, { headers });
    sent.on("upgrade", (response, socket) => {
      socket.destroy();
      resolve(response.statusCode ?? 0);
    });
    sent.on("response", (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    sent.on("error", reject);
    sent.end();
  });
};
