import type { AddressInfo } from "node:net";
import { WebSocketServer } from "ws";
import { serveWorker } from "../worker.ts";

/** Floor: a WebSocket that sends back what it gets. */

serveWorker({
  listen: () =>
    new Promise<string>((resolve) => {
      const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false }, () => {
        const { port } = server.address() as AddressInfo;
        resolve(`ws://127.0.0.1:${port}`);
      });
      server.on("connection", (ws) => ws.on("message", (data) => ws.send(data)));
    }),
});
