import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import { api, type ReplicaProcess, sampleOf, startReplicaProcess } from "@rootstock/testkit";
import { exchange } from "./exchange.ts";
import {
  callAllowed,
  forEach,
  makeWorld,
  name,
  nothing,
  parametersOf,
  problemsOf,
  rowCounts,
  type Sent,
  type World,
} from "./world.ts";

/** One pass over everything against a replica in a process of its own, which must live on and complain of nothing. */

let world: World;
let replica: ReplicaProcess;

beforeAll(async () => {
  world = await makeWorld();
  replica = await startReplicaProcess({
    databaseUrl: world.scene.database.url,
    name: "under-test",
    env: { ROOTSTOCK_RATE_LIMITS: "off" },
  });
});
afterAll(async () => {
  await replica.stop();
  await world.scene.end();
});

/** The lines at level `error` and above, and whatever is no line of the log. */
const complaints = (): string[] =>
  replica
    .output()
    .split("\n")
    .filter((line) => line !== "" && !/^\{"level":"?(10|20|30|40|trace|debug|info|warn)\b/.test(line));

test("a replica process survives a pass over every route with bad input, and logs no failure of its own", async () => {
  const before = await rowCounts(world.scene);
  const bodies = ["{", "[]", '{"name":7}', `{"name":${"[".repeat(50_000)}${"]".repeat(50_000)}}`, "\u0000"];
  const found = await forEach(world.routes, async (route) => {
    const path = nothing(route);
    // What needs no body and no id would be carried out.
    if (!route.body && parametersOf(route).length === 0 && route.method !== "GET") return [];
    const raws: readonly (string | undefined)[] = route.body ? bodies : [undefined];
    const sent: Sent[] = raws.map((raw) => (raw === undefined ? {} : { raw }));
    if (route.body && parametersOf(route).length > 0)
      sent.push({ body: sampleOf(route.body), headers: { "idempotency-key": systemRandom.uuid() } });
    const replies = await Promise.all(sent.map((s) => callAllowed(world, route, path, s, replica)));
    return replies.flatMap((r) => problemsOf(name(route, path), r));
  });
  expect(found).toEqual([]);
  expect(await rowCounts(world.scene)).toEqual(before);
});

test("and bytes that are no HTTP, sockets that end in the middle, and garbage over the control channel", async () => {
  const { host } = new URL(replica.url);
  const upgrade = `GET /api/v1/runtime-brokers/connect HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n`;
  const key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
  const half = `POST /api/v1/projects HTTP/1.1\r\nHost: ${host}\r\nContent-Length: 100\r\n\r\n{"name":`;
  const tries = ["\u0000\r\n\r\n", `${upgrade}\r\n`, `${upgrade}${key}\r\n`, half, "GET /events HTTP/1.1\r\n"];
  await Promise.all(tries.map((bytes) => exchange(replica.url, bytes, 200)));
  const noHost = await exchange(replica.url, "GET /nothing HTTP/1.1\r\nHost: 256.256.256.256\r\n\r\n", 200);
  expect(noHost).toMatch(/^HTTP\/1\.1 400 .*"error":\{"code":"invalid_request"/s);
  const credentials = await world.scene.join(replica, "noisy");
  const noisy = await world.scene.connect(replica, credentials, { redials: false });
  const closed = noisy.onClose.next();
  for (const frame of ["{", "null", '{"type":"response","requestId":1}', Buffer.alloc(9, 0xff)]) noisy.sendRaw(frame);
  noisy.sendRaw("x".repeat(1_048_577));
  await closed;
  expect((await api(replica, "GET", "/healthz")).get("status")).toBe("healthy");
  expect((await api(replica, "GET", "/api/v1/projects")).status).toBe(200);
  expect(complaints()).toEqual([]);
  expect(await Promise.race([replica.exited, Promise.resolve("alive")])).toBe("alive");
});
