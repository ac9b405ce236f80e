import { STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import { type HubError, wireError } from "@rootstock/protocol";

/** Answers what did not become a request, or not a WebSocket, over its bare socket and closes it. */
export const refuseSocket = (socket: Duplex, err: HubError): void => {
  if (socket.destroyed || !socket.writable) {
    socket.destroy();
    return;
  }
  const body = JSON.stringify(wireError(err));
  socket.once("finish", () => socket.destroy());
  socket.end(
    [
      `HTTP/1.1 ${err.status} ${STATUS_CODES[err.status] ?? ""}`,
      "Connection: close",
      "Content-Type: application/json",
      "X-Content-Type-Options: nosniff",
      "Cache-Control: no-store",
      `Content-Length: ${Buffer.byteLength(body)}`,
      ...(err.retryAfter === undefined ? [] : [`Retry-After: ${err.retryAfter}`]),
      "",
      body,
    ].join("\r\n"),
  );
};
