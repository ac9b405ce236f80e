import { STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import { type HubError, wireError } from "@rootstock/protocol";

/** What every answer tells a browser that does not say otherwise: it is no document, is in nobody's frame, and no cache keeps it. */
export const ON_EVERY_ANSWER: readonly (readonly [string, string])[] = [
  ["x-content-type-options", "nosniff"],
  ["content-security-policy", "default-src 'none'; frame-ancestors 'none'"],
  ["referrer-policy", "no-referrer"],
  ["cache-control", "no-store"],
];

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
      ...[...ON_EVERY_ANSWER, ...Object.entries(err.headers)].map(([name, value]) => `${name}: ${value}`),
      `Content-Length: ${Buffer.byteLength(body)}`,
      ...(err.retryAfter === undefined ? [] : [`Retry-After: ${err.retryAfter}`]),
      "",
      body,
    ].join("\r\n"),
  );
};
