import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "@jest/globals";
import { type FollowOptions, followLogs } from "./followLogs.ts";
import { Http } from "./http.ts";

let close: (() => void) | undefined;
afterEach(() => close?.());

/** Each connection gets the next script; what the client asked for is kept. */
const serve = async (...scripts: ((res: ServerResponse) => void)[]) => {
  const asked: (string | undefined)[] = [];
  const positions: (string | string[] | undefined)[] = [];
  const server = createServer((req, res) => {
    asked.push(req.url);
    positions.push(req.headers["last-event-id"]);
    scripts[Math.min(asked.length, scripts.length) - 1]?.(res);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  close = () => {
    server.closeAllConnections();
    server.close();
  };
  const { port } = server.address() as AddressInfo;
  return { asked, positions, http: new Http({ baseUrl: `http://127.0.0.1:${port}` }) };
};

const log = (message: string, id?: string) =>
  `event: log\ndata: ${JSON.stringify({ timestamp: "2026-01-01T00:00:00Z", severity: "DEFAULT", message, insertId: "1" })}\n${id ? `id: ${id}\n` : ""}\n`;
const end = (event: string, data: object) => `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
const stream = (res: ServerResponse, text: string) => {
  res.writeHead(200, { "content-type": "text/event-stream" });
  res.end(text);
};

const read = async (http: Http, options: Partial<FollowOptions> = {}) => {
  const lines: string[] = [];
  const attempts: number[] = [];
  const wait = async (attempt: number) => void attempts.push(attempt);
  const signal = new AbortController().signal;
  const all = followLogs(http, "/logs", { tail: 5, signal, wait, ...options });
  for await (const line of all) lines.push(line);
  return { lines, attempts };
};

test("lines until the log ends", async () => {
  const { asked, http } = await serve((res) => stream(res, `: hello\n\n${log("one")}${log("two")}${end("end", {})}`));
  expect(await read(http)).toEqual({ lines: ["one", "two"], attempts: [] });
  expect(asked).toEqual(["/logs?follow=true&tail=5"]);
});

test("what ends for a reason that passes is followed again, from then on", async () => {
  const { asked, http } = await serve(
    (res) => stream(res, log("one") + end("error", { code: 4503, reason: "broker_disconnected", reconnect: true })),
    (res) => {
      res.writeHead(503, { "content-type": "application/json" });
      res.end(JSON.stringify({ error: { code: "runtime_broker_unavailable", message: "away" } }));
    },
    (res) => stream(res, log("two") + end("timeout", {})),
    (res) => stream(res, log("three") + end("end", {})),
  );
  expect(await read(http)).toEqual({ lines: ["one", "two", "three"], attempts: [1, 2, 1] });
  expect(asked.map((url) => url?.split("tail=")[1])).toEqual(["5", "0", "0", "0"]);
});

test("goes on at the hub's last position; lines after it that come again are told once", async () => {
  const lost = end("error", { code: 4503, reason: "broker_disconnected", reconnect: true });
  const { asked, positions, http } = await serve(
    (res) => stream(res, log("one") + log("two", "B") + log("same") + log("same") + lost),
    (res) => stream(res, log("same") + lost),
    (res) => stream(res, log("same") + log("same") + log("same") + log("five", "E") + log("six") + lost),
    // An older replica knows no positions, and begins with what comes.
    (res) => stream(res, log("eight") + end("end", {})),
  );
  const { lines } = await read(http);
  expect(lines).toEqual(["one", "two", "same", "same", "same", "five", "six", "eight"]);
  expect(positions).toEqual([undefined, "B", "B", "E"]);
  expect(asked.map((url) => url?.split("tail=")[1])).toEqual(["5", "0", "0", "0"]);
});

test("a log that had no line yet is asked for as at the beginning", async () => {
  const { asked, http } = await serve(
    (res) => stream(res, end("error", { code: 4503, reason: "broker_disconnected", reconnect: true })),
    (res) => stream(res, log("one") + end("end", {})),
  );
  expect((await read(http)).lines).toEqual(["one"]);
  expect(asked).toEqual(["/logs?follow=true&tail=5", "/logs?follow=true&tail=5"]);
});

test("a refusal ends it", async () => {
  const { http } = await serve((res) =>
    stream(res, log("one") + end("error", { code: 4403, reason: "forbidden", reconnect: false })),
  );
  await expect(read(http)).rejects.toMatchObject({ code: "forbidden" });
});
