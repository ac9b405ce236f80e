import { createServer, type Server } from "node:net";
import { afterEach, expect, test } from "@jest/globals";
import { freePort, isFreePort } from "./freePort.ts";
import { type Random, systemRandom } from "./random.ts";

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});
const occupy = (port: number): Promise<void> =>
  new Promise((resolve) => servers.push(createServer().listen(port, "127.0.0.1", resolve)));

test("a port is below those of outgoing connections, and free", async () => {
  const port = await freePort(systemRandom);
  expect(port).toBeGreaterThanOrEqual(20_000);
  expect(port).toBeLessThan(32_768);
  await occupy(port);
  expect(await isFreePort(port)).toBe(false);
});

test("a port that is taken is passed over; with none left it is said so", async () => {
  const taken = await freePort(systemRandom);
  await occupy(taken);
  const fraction = (taken + 0.5 - 20_000) / 12_768;
  const always: Random = { ...systemRandom, fraction: () => fraction };
  await expect(freePort(always)).rejects.toThrow("no free port");
  let asked = 0;
  const then: Random = { ...systemRandom, fraction: () => (asked++ === 0 ? fraction : systemRandom.fraction()) };
  expect(await freePort(then)).not.toBe(taken);
});
