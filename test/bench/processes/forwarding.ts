import { randomUUID } from "node:crypto";
import { serve } from "@hono/node-server";
import { Hono } from "hono";
import { type WebSocket, WebSocketServer } from "ws";

/**
 * The least that a hub does: takes an HTTP call, forwards it over the WebSocket of a peer, and answers when that has.
 * `accept` comes first with each call. Resolves with the URL at which it listens.
 */
export const serveForwarding = (accept?: (id: string, body: Buffer) => Promise<unknown>): Promise<string> => {
  const waiting = new Map<string, (status: number) => void>();
  let peer: WebSocket | undefined;
  const app = new Hono();
  app.post("/message", async (c) => {
    const body = Buffer.from(await c.req.arrayBuffer());
    const requestId = randomUUID();
    await accept?.(requestId, body);
    const answered = new Promise<number>((resolve) => waiting.set(requestId, resolve));
    peer?.send(
      JSON.stringify({
        type: "request",
        requestId,
        method: "POST",
        path: "/api/v1/agents/bare/message",
        body: body.toString("base64"),
      }),
    );
    const status = await answered;
    return c.json({ status });
  });
  return new Promise((resolve) => {
    const server = serve(
      { fetch: app.fetch, hostname: "127.0.0.1", port: 0, serverOptions: { keepAliveTimeout: 600_000 } },
      ({ port }) => resolve(`http://127.0.0.1:${port}`),
    );
    const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false });
    server.on("upgrade", (request, socket, head) => {
      sockets.handleUpgrade(request, socket, head, (ws) => {
        peer = ws;
        ws.send(JSON.stringify({ type: "connected" }));
        ws.on("message", (data) => {
          const frame: { requestId: string; statusCode: number } = JSON.parse(data.toString());
          waiting.get(frame.requestId)?.(frame.statusCode);
          waiting.delete(frame.requestId);
        });
      });
    });
  });
};
