import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, test } from "@jest/globals";
import { HubResponseError, HubUnreachableError } from "./errors.ts";
import { Http, type HttpOptions } from "./http.ts";

type Answer = (req: IncomingMessage, res: ServerResponse) => void;

let server: Server | undefined;

/** A server that gives the n-th request the n-th answer, and the last one from then on. */
const serve = async (...answers: Answer[]) => {
  const requests: IncomingMessage[] = [];
  const bodies: string[] = [];
  server = createServer(async (req, res) => {
    requests.push(req);
    const answer = answers[Math.min(requests.length, answers.length) - 1];
    let body = "";
    for await (const chunk of req) body += chunk;
    bodies.push(body);
    answer?.(req, res);
  });
  await new Promise<void>((resolve) => server?.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return { requests, bodies, baseUrl: `http://127.0.0.1:${port}/` };
};

const json =
  (status: number, body: unknown, headers: Record<string, string> = {}): Answer =>
  (_req, res) => {
    res.writeHead(status, { "content-type": "application/json", ...headers });
    res.end(JSON.stringify(body));
  };

const cut: Answer = (req) => req.socket.destroy();

const retrying: Pick<HttpOptions, "retry"> = { retry: { attempts: 3, wait: async () => {} } };

afterEach(() => {
  server?.closeAllConnections();
  server?.close();
  server = undefined;
});

describe("requests", () => {
  test("carry the bearer token, the query without undefined values, and a JSON body", async () => {
    const { requests, bodies, baseUrl } = await serve(json(200, { ok: true }));
    const http = new Http({ baseUrl, token: "t0" });
    await expect(
      http.json("POST", "/api/v1/x", { query: { a: 1, b: undefined, c: "d e" }, body: { n: 1 } }),
    ).resolves.toEqual({ ok: true });
    expect(requests[0]?.url).toBe("/api/v1/x?a=1&c=d+e");
    expect(requests[0]?.headers).toMatchObject({ authorization: "Bearer t0", "content-type": "application/json" });
    expect(bodies[0]).toBe('{"n":1}');
  });

  test("without a body send neither body nor content type", async () => {
    const { requests, baseUrl } = await serve(json(200, {}));
    await new Http({ baseUrl }).json("POST", "/x");
    expect(requests[0]?.headers["content-type"]).toBeUndefined();
    expect(requests[0]?.headers.authorization).toBeUndefined();
  });

  test("a 204 needs no body", async () => {
    const { baseUrl } = await serve((_req, res) => res.writeHead(204).end());
    await expect(new Http({ baseUrl }).done("DELETE", "/x")).resolves.toBeUndefined();
  });
});

describe("errors", () => {
  const failure = async (answer: Answer): Promise<HubResponseError> => {
    const { baseUrl } = await serve(answer);
    const err = await new Http({ baseUrl }).json("GET", "/x").catch((e: unknown) => e);
    if (!(err instanceof HubResponseError)) throw new Error(`expected HubResponseError, got ${err}`);
    return err;
  };

  test("the envelope becomes a typed error", async () => {
    const body = { error: { code: "no_runtime_broker", message: "none", details: { availableBrokers: [] } } };
    const err = await failure(json(422, body, { "x-request-id": "r1", "retry-after": "5" }));
    expect(err).toMatchObject({
      status: 422,
      code: "no_runtime_broker",
      message: "none",
      details: { availableBrokers: [] },
      requestId: "r1",
      retryAfter: 5,
    });
  });

  test("a short plain text becomes the message, a long page does not", async () => {
    const short = await failure((_req, res) => res.writeHead(404).end("404 page not found\n"));
    expect(short).toMatchObject({ status: 404, code: "http_404", message: "404 page not found" });
    server?.close();
    const long = await failure((_req, res) => res.writeHead(502).end("x".repeat(5000)));
    expect(long.message).toBe("the hub answered with status 502");
    server?.close();
    const page = await failure((_req, res) => res.writeHead(503).end("<html><body>no server</body></html>"));
    expect(page.message).toBe("the hub answered with status 503");
  });

  test("a 2xx that is not JSON is an error, not a crash later", async () => {
    const err = await failure((_req, res) => res.writeHead(200, { "content-type": "text/html" }).end("<html>"));
    expect(err.code).toBe("invalid_answer");
  });

  test("nobody listening says so, with the address", async () => {
    const { baseUrl } = await serve(json(200, {}));
    server?.close();
    const err = await new Http({ baseUrl }).json("GET", "/x").catch((e: unknown) => e);
    expect(err).toBeInstanceOf(HubUnreachableError);
    expect(String(err)).toContain(baseUrl.slice(0, -1));
    expect(String(err)).toContain("ECONNREFUSED");
  });

  test("a hub that never answers ends in a timeout", async () => {
    const { baseUrl } = await serve(() => {});
    const err = await new Http({ baseUrl, timeoutMs: 50 }).json("GET", "/x").catch((e: unknown) => e);
    expect(err).toMatchObject({ name: "HubUnreachableError", timedOut: true });
  });
});

describe("repetition", () => {
  test("a GET whose connection breaks is sent again", async () => {
    const { requests, baseUrl } = await serve(cut, json(200, { n: 2 }));
    await expect(new Http({ baseUrl, ...retrying }).json("GET", "/x")).resolves.toEqual({ n: 2 });
    expect(requests).toHaveLength(2);
  });

  test("a keyed POST is sent again with the same key", async () => {
    const { requests, baseUrl } = await serve(cut, json(200, {}));
    await new Http({ baseUrl, ...retrying }).json("POST", "/x", { idempotencyKey: "auto", body: {} });
    const keys = requests.map((r) => r.headers["idempotency-key"]);
    expect(keys[0]).toMatch(/^[0-9a-f-]{36}$/);
    expect(keys[1]).toBe(keys[0]);
  });

  test("a keyed call that is still under way elsewhere is asked for again", async () => {
    const busy = json(409, { error: { code: "request_in_progress", message: "wait" } });
    const { baseUrl } = await serve(busy, json(200, { done: true }));
    const http = new Http({ baseUrl, ...retrying });
    await expect(http.json("POST", "/x", { idempotencyKey: "k" })).resolves.toEqual({ done: true });
  });

  test("a POST without a key is never sent twice", async () => {
    const { requests, baseUrl } = await serve(cut, json(200, {}));
    await expect(new Http({ baseUrl, ...retrying }).json("POST", "/x", { body: {} })).rejects.toThrow("cannot reach");
    expect(requests).toHaveLength(1);
  });

  test("an answer, even a bad one, is final; and attempts are bounded", async () => {
    const first = await serve(json(503, { error: { code: "unavailable", message: "no" } }));
    await expect(new Http({ baseUrl: first.baseUrl, ...retrying }).json("GET", "/x")).rejects.toThrow("no");
    expect(first.requests).toHaveLength(1);
    server?.close();
    const second = await serve(cut);
    await expect(new Http({ baseUrl: second.baseUrl, ...retrying }).json("GET", "/x")).rejects.toThrow("cannot reach");
    expect(second.requests).toHaveLength(3);
  });
});
