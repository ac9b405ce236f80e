import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "@jest/globals";
import { readEvents } from "./events.ts";
import { Http } from "./http.ts";

let close: (() => void) | undefined;
afterEach(() => close?.());

/** Each connection gets the next script; what the client asked for is kept. */
const serve = async (...scripts: ((res: ServerResponse) => void)[]) => {
  const asked: { url: string | undefined; after: string | undefined }[] = [];
  const server = createServer((req, res) => {
    asked.push({ url: req.url, after: req.headers["last-event-id"]?.toString() });
    scripts[Math.min(asked.length, scripts.length) - 1]?.(res);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  close = () => {
    server.closeAllConnections();
    server.close();
  };
  const { port } = server.address() as AddressInfo;
  return { asked, http: new Http({ baseUrl: `http://127.0.0.1:${port}` }) };
};

const stream = (res: ServerResponse, text: string) => {
  res.writeHead(200, { "content-type": "text/event-stream" });
  res.write(text);
};

const update = (id: string, subject: string) =>
  `id: ${id}\nevent: update\ndata: ${JSON.stringify({ subject, data: { id } })}\n\n`;

test("after a cut the stream goes on from the last position, and a heartbeat position counts", async () => {
  const { asked, http } = await serve(
    (res) => {
      stream(res, `retry: 7\n${update("p1", "agent.a.status")}id: p2\n\n`);
      setImmediate(() => res.socket?.destroy());
    },
    (res) => stream(res, update("p3", "agent.a.deleted")),
  );
  const abort = new AbortController();
  const waits: (number | undefined)[] = [];
  const seen: string[] = [];
  const wait = async (asked: number | undefined) => void waits.push(asked);
  for await (const event of readEvents(http, { subjects: ["agent.>", "project.*"], signal: abort.signal, wait })) {
    seen.push(event.id);
    if (event.id === "p3") abort.abort();
  }
  expect(seen).toEqual(["p1", "p3"]);
  expect(asked.map((a) => a.after)).toEqual([undefined, "p2"]);
  expect(asked[0]?.url).toBe("/events?sub=agent.%3E&sub=project.*");
  expect(waits).toEqual([7]);
});

test("a resync is told, not swallowed", async () => {
  const { http } = await serve((res) => stream(res, "id: p9\nevent: resync\ndata: pruned\n\n"));
  const abort = new AbortController();
  for await (const event of readEvents(http, {
    subjects: [">"],
    after: "p0",
    signal: abort.signal,
    wait: async () => {},
  })) {
    expect(event).toEqual({ kind: "resync", id: "p9", reason: "pruned" });
    abort.abort();
  }
});

test("a replica that is not ready is tried again, a refusal ends the iteration", async () => {
  const refuse = (status: number) => (res: ServerResponse) => {
    res.writeHead(status, { "content-type": "application/json" });
    res.end(JSON.stringify({ error: { code: `c${status}`, message: "no" } }));
  };
  const { asked, http } = await serve(refuse(503), refuse(401));
  const events = readEvents(http, { subjects: [">"], signal: new AbortController().signal, wait: async () => {} });
  await expect(events.next()).rejects.toMatchObject({ code: "c401" });
  expect(asked).toHaveLength(2);
});
