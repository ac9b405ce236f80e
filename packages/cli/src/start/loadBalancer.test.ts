import { createServer as createHttpServer, type RequestListener } from "node:http";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { type Base, systemClock, systemRandom } from "@rootstock/service";
import { testLog } from "@rootstock/testkit";
import { LoadBalancer } from "./loadBalancer.ts";
import { type Upstream, Upstreams } from "./upstreams.ts";

const base: Base = { clock: systemClock, random: systemRandom, log: testLog() };
const cleanups: (() => unknown)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const listen = async (server: Server, port = 0): Promise<number> => {
  const sockets = new Set<Socket>();
  server.on("connection", (s: Socket) => {
    sockets.add(s);
    s.on("error", () => {});
    s.once("close", () => sockets.delete(s));
  });
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  cleanups.push(() => {
    for (const s of sockets) s.destroy();
    return new Promise((resolve) => server.close(resolve));
  });
  return (server.address() as AddressInfo).port;
};

/** A replica that answers with its name, ready or not. */
const replica = async (name: string, readyStatus = () => 200): Promise<Upstream> => {
  const answer: RequestListener = (req, res) => {
    res.writeHead(req.url === "/readyz" ? readyStatus() : 200, { connection: "close" }).end(name);
  };
  return { name, host: "127.0.0.1", port: await listen(createHttpServer(answer)) };
};

/** A port on which nobody listens. */
const nobody = async (name: string): Promise<Upstream> => {
  const server = createServer();
  const port = await listen(server);
  await new Promise((resolve) => server.close(resolve));
  return { name, host: "127.0.0.1", port };
};

const balance = async (list: readonly Upstream[], options: { waitMs?: number } = {}) => {
  const upstreams = new Upstreams({ upstreams: list, base, intervalMs: 10, timeoutMs: 200 });
  const balancer = new LoadBalancer({ host: "127.0.0.1", port: 0, upstreams, base, ...options });
  await upstreams.start();
  await balancer.start();
  cleanups.push(
    () => balancer.stop(),
    () => upstreams.stop(),
  );
  const isReady = (names: readonly string[]) =>
    upstreams.until((s) => names.every((n) => s.get(n) === "ready"), new AbortController().signal);
  return { upstreams, balancer, isReady, url: `http://127.0.0.1:${balancer.address().port}` };
};

const ask = async (url: string): Promise<string> => (await fetch(`${url}/x`)).text();

describe("choice of a replica", () => {
  test("connections go round over the ready ones", async () => {
    const { url, isReady } = await balance([await replica("a"), await replica("b"), await replica("c")]);
    await isReady(["a", "b", "c"]);
    const names: string[] = [];
    for (let i = 0; i < 6; i += 1) names.push(await ask(url));
    expect(new Set(names.slice(0, 3))).toEqual(new Set(["a", "b", "c"]));
    expect(names.slice(3)).toEqual(names.slice(0, 3));
  });

  test("a draining one gets nothing while another is ready, and everything when it is the last", async () => {
    let bIsUp = true;
    const a = await replica("a", () => 503);
    const b = await replica("b", () => (bIsUp ? 200 : 503));
    const { url, isReady, upstreams } = await balance([a, b]);
    await isReady(["b"]);
    for (let i = 0; i < 4; i += 1) expect(await ask(url)).toBe("b");
    bIsUp = false;
    await upstreams.until((s) => s.get("b") === "refusing", new AbortController().signal);
    expect(["a", "b"]).toContain(await ask(url));
  });

  test("one that died a moment ago is skipped without the client noticing", async () => {
    const dying = createHttpServer((_req, res) => res.writeHead(200, { connection: "close" }).end("dying"));
    const port = await listen(dying);
    const { url, isReady, upstreams } = await balance([{ name: "dying", host: "127.0.0.1", port }, await replica("b")]);
    await isReady(["dying", "b"]);
    await upstreams.stop();
    await new Promise((resolve) => dying.close(resolve));
    for (let i = 0; i < 4; i += 1) expect(await ask(url)).toBe("b");
    expect(upstreams.state("dying")).toBe("down");
  });

  test("one that accepts but does not answer is not ready", async () => {
    const hung = { name: "hung", host: "127.0.0.1", port: await listen(createServer()) };
    const { url, isReady, upstreams } = await balance([hung, await replica("b")]);
    await isReady(["b"]);
    for (let i = 0; i < 4; i += 1) expect(await ask(url)).toBe("b");
    expect(upstreams.state("hung")).toBe("down");
  });

  test("a connection waits for the first replica to come up", async () => {
    const late = await nobody("late");
    const { url } = await balance([late]);
    const answer = ask(url);
    const server = createHttpServer((_req, res) => res.writeHead(200, { connection: "close" }).end("late"));
    await listen(server, late.port);
    expect(await answer).toBe("late");
  });

  test("with no replica at all the connection is closed after the wait", async () => {
    const { url } = await balance([await nobody("a")], { waitMs: 50 });
    await expect(ask(url)).rejects.toThrow("fetch failed");
  });
});

describe("bytes", () => {
  let upstream: { socket: Promise<Socket>; address: Upstream };
  let url: URL;
  let balancer: LoadBalancer;

  beforeEach(async () => {
    let give: (s: Socket) => void = () => {};
    const socket = new Promise<Socket>((resolve) => {
      give = resolve;
    });
    // The first bytes tell the health check from the client under test.
    const server = createServer({ allowHalfOpen: true }, (s) => {
      s.once("data", (first) => {
        if (first.toString().startsWith("GET /readyz")) return s.end("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        s.unshift(first);
        s.pause();
        return give(s);
      });
    });
    upstream = { socket, address: { name: "u", host: "127.0.0.1", port: await listen(server) } };
    const all = await balance([upstream.address]);
    await all.isReady(["u"]);
    balancer = all.balancer;
    url = new URL(all.url);
  });

  const dial = (): Socket => {
    const client = connect({ host: url.hostname, port: Number(url.port), allowHalfOpen: true });
    cleanups.push(() => client.destroy());
    client.on("error", () => {});
    return client;
  };

  const readAll = async (s: Socket): Promise<Buffer> => {
    const chunks: Buffer[] = [];
    for await (const chunk of s) chunks.push(chunk);
    return Buffer.concat(chunks);
  };

  test("a client that has ended its side still gets the whole answer", async () => {
    const client = dial();
    client.end("question");
    const s = await upstream.socket;
    expect((await readAll(s)).toString()).toBe("question");
    s.end("answer");
    expect((await readAll(client)).toString()).toBe("answer");
  });

  test("what was sent before the replica took over is not lost, and much arrives whole", async () => {
    const client = dial();
    const big = Buffer.alloc(8_000_000, "abcdefghij");
    client.end(big);
    const s = await upstream.socket;
    expect((await readAll(s)).equals(big)).toBe(true);
  });

  test("a client that reads nothing holds the replica back instead of filling memory", async () => {
    const client = dial();
    client.write("go");
    client.pause();
    const s = await upstream.socket;
    // Far more than both socket buffers hold: the flow must stop.
    const chunk = Buffer.alloc(1_000_000);
    let accepted = 0;
    while (accepted < 200_000_000 && s.write(chunk)) accepted += chunk.length;
    expect(s.writableNeedDrain).toBe(true);
    const drained = new Promise((resolve) => s.once("drain", resolve));
    client.resume();
    await drained;
  });

  test("a replica that dies in the middle is a reset, not a clean end", async () => {
    const client = dial();
    client.write("go");
    const ended = new Promise<string>((resolve) => {
      client.once("error", (err) => resolve("code" in err ? String(err.code) : "error"));
      client.once("end", () => resolve("clean end"));
    });
    client.resume();
    (await upstream.socket).resetAndDestroy();
    expect(await ended).toBe("ECONNRESET");
  });

  test("stop ends open connections and frees the port", async () => {
    const client = dial();
    client.write("go");
    await upstream.socket;
    const ended = new Promise((resolve) => client.once("end", resolve));
    client.resume();
    const { port } = balancer.address();
    await balancer.stop();
    await ended;
    await listen(createServer(), port);
  });
});
