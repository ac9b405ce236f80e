import { connect } from "node:net";
import { expect, test } from "@jest/globals";
import { silentLog } from "@rootstock/service";
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
    log: silentLog(),
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
