import { serve } from "@hono/node-server";
import { Hono } from "hono";
import { serveWorker } from "../worker.ts";

/** Floor: an HTTP answer of the framework that the hub uses, with nothing behind it. */

const app = new Hono();
app.post("/message", async (c) => {
  await c.req.text();
  return c.json({ status: "delivered" });
});

serveWorker({
  listen: () =>
    new Promise<string>((resolve) => {
      serve(
        { fetch: app.fetch, hostname: "127.0.0.1", port: 0, serverOptions: { keepAliveTimeout: 600_000 } },
        ({ port }) => resolve(`http://127.0.0.1:${port}`),
      );
    }),
});
