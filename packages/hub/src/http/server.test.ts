import { connect } from "node:net";
import { expect, test } from "@jest/globals";
import { testLog } from "@rootstock/testkit";
import { Hono } from "hono";
import { HttpServer } from "./server.ts";

test("whoever sends the head of a request a byte at a time is not waited for", async () => {
  const app = new Hono();
  app.get("/", (c) => c.text("hello"));
  const server = new HttpServer({
    host: "127.0.0.1",
    port: 0,
    app,
    upgrades: [],
    log: testLog(),
    headersMs: 200,
  });
  await server.start();
  try {
    const answer = await new Promise<string>((resolve) => {
      const socket = connect(server.address().port, "127.0.0.1", () => socket.write("GET / HTTP/1.1\r\nhost: x\r\nx-"));
      let text = "";
      socket.setEncoding("utf8");
      socket.on("data", (chunk: string) => {
        text += chunk;
      });
      socket.on("error", () => {});
      socket.on("close", () => resolve(text));
    });
    expect(answer).toMatch(/^HTTP\/1\.1 408 /);
    expect((await fetch(`http://127.0.0.1:${server.address().port}/`)).status).toBe(200);
  } finally {
    await server.stop();
  }
});

const PAGE = "x".repeat(100_000);

/** Everything that a server says to `text`, until it has closed the connection or said `enough`. */
const said = (
  port: number,
  text: string,
  enough: (answer: string) => boolean,
): Promise<{ text: string; closed: boolean }> =>
  new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => socket.write(text));
    let answer = "";
    socket.setEncoding("utf8");
    socket.on("data", (chunk: string) => {
      answer += chunk;
      if (!enough(answer)) return;
      resolve({ text: answer, closed: false });
      socket.destroy();
    });
    socket.on("error", () => {});
    socket.on("close", () => resolve({ text: answer, closed: true }));
  });

const serving = async (app: Hono, work: (port: number) => Promise<void>): Promise<void> => {
  const server = new HttpServer({ host: "127.0.0.1", port: 0, app, upgrades: [], log: testLog() });
  await server.start();
  try {
    await work(server.address().port);
  } finally {
    server.closeAll();
    await server.stop();
  }
};

test("who asks on and on without waiting for answers is cut: each would wait in memory for being read", async () => {
  const app = new Hono();
  let asked = 0;
  app.get("/", async (c) => {
    asked += 1;
    await new Promise(setImmediate);
    return c.text(PAGE);
  });
  const request = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
  await serving(app, async (port) => {
    const few = await said(
      port,
      request.repeat(8),
      (text) => text.split("HTTP/1.1 200").length > 8 && text.endsWith(PAGE),
    );
    expect(few.closed).toBe(false);
    expect(asked).toBe(8);
    const many = await said(port, request.repeat(5_000), () => false);
    expect(many.closed).toBe(true);
    expect(asked).toBeLessThan(50);
  });
});

test("an upgrade to what is no WebSocket is not made, and the request is answered", async () => {
  const app = new Hono();
  app.get("/", (c) => c.text("hello"));
  await serving(app, async (port) => {
    const upgrade = "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n";
    const answer = await said(port, `GET / HTTP/1.1\r\nhost: x\r\n${upgrade}\r\n`, (text) => text.endsWith("hello"));
    expect(answer.text).toMatch(/^HTTP\/1\.1 200 /);
    const socket = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n";
    const refused = await said(port, `GET / HTTP/1.1\r\nhost: x\r\n${socket}\r\n`, () => false);
    expect(refused.text).toMatch(/^HTTP\/1\.1 404 /);
  });
});

test("the signal of a request that waits for its answer aborts when whoever sent it goes away", async () => {
  const app = new Hono();
  let asked = () => {};
  const isAsked = new Promise<void>((resolve) => {
    asked = resolve;
  });
  let gone = () => {};
  const isGone = new Promise<void>((resolve) => {
    gone = resolve;
  });
  app.get("/", async (c) => {
    asked();
    c.req.raw.signal.addEventListener("abort", gone, { once: true });
    await isGone;
    return c.text("nobody reads this");
  });
  await serving(app, async (port) => {
    const going = new AbortController();
    const answer = fetch(`http://127.0.0.1:${port}/`, { signal: going.signal });
    await isAsked;
    going.abort();
    await expect(answer).rejects.toThrow();
    await isGone;
  });
});
