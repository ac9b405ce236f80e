import { connect } from "node:net";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import { type ApiReply, api, type InProcessReplica, Scene } from "@rootstock/testkit";

/** What every answer tells browsers, whom other sites' pages may be, and how long a request may take to come. */

let scene: Scene;
let open: InProcessReplica;
let closed: InProcessReplica;
beforeAll(async () => {
  scene = await Scene.create();
  open = await scene.replica({ ROOTSTOCK_TRUSTED_PROXIES: "127.0.0.1, ::1" });
  closed = await scene.replica({
    ROOTSTOCK_PUBLIC_URL: "https://hub.example.org",
    ROOTSTOCK_CORS_ORIGINS: "https://pages.example.org",
  });
});
afterAll(() => scene.end());

const get = (path: string, headers: Readonly<Record<string, string>> = {}, replica = open): Promise<ApiReply> =>
  api(replica, "GET", path, undefined, { headers });
const SITE = "https://pages.example.org";

test.each([
  ["an answer", "/api/v1/projects", {}, 200],
  ["a refusal", "/api/v1/projects", { authorization: "Bearer nothing" }, 401],
  ["a path that is not there", "/nowhere", {}, 404],
  ["health", "/healthz", {}, 200],
  ["a page", "/login", { accept: "text/html" }, 200],
] as const)("%s is what it says, in nobody's frame, kept by no cache", async (_, path, headers, status) => {
  const reply = await get(path, headers);
  expect(reply.status).toBe(status);
  expect(reply.headers.get("x-content-type-options")).toBe("nosniff");
  expect(reply.headers.get("content-security-policy")).toContain("default-src 'none'");
  expect(reply.headers.get("content-security-policy")).toContain("frame-ancestors 'none'");
  expect(reply.headers.get("content-security-policy")).not.toContain("unsafe");
  expect(reply.headers.get("referrer-policy")).toMatch(/^(no-referrer|same-origin)$/);
  expect(reply.headers.get("cache-control")).toBe("no-store");
  expect(reply.headers.get("strict-transport-security")).toBeNull();
  if (!reply.headers.get("content-type")?.startsWith("text/html")) return;
  expect(reply.headers.get("x-frame-options")).toBe("DENY");
  expect(reply.headers.get("cross-origin-opener-policy")).toBe("same-origin");
  expect(reply.headers.get("permissions-policy")).toContain("camera=()");
});

test("what is for programs answers a browser too as it says, and sends it nowhere", async () => {
  for (const path of ["/metrics", "/events?sub=%3E"]) {
    const reply = await fetch(`${open.url}${path}`, { headers: { accept: "text/html" }, redirect: "manual" });
    expect([reply.status, reply.headers.get("content-type")]).toEqual([401, "application/json"]);
  }
});

test("what says otherwise by itself is left alone", async () => {
  expect((await get("/.well-known/jwks.json")).headers.get("cache-control")).toMatch(/^public/);
});

test("browsers are told to stay with TLS where the client has come by it, and nowhere else", async () => {
  const strict = (reply: ApiReply) => reply.headers.get("strict-transport-security");
  expect(strict(await get("/healthz", { "x-forwarded-proto": "https" }))).toBe("max-age=31536000");
  expect(strict(await get("/healthz", { "x-forwarded-proto": "http" }))).toBeNull();
  expect(strict(await get("/healthz", {}, closed))).toBe("max-age=31536000");
});

test("pages of any site may call the API with a token of their own, and none with the browser's credentials", async () => {
  const asked = await fetch(`${open.url}/api/v1/agents`, {
    method: "OPTIONS",
    headers: { origin: SITE, "access-control-request-method": "POST" },
  });
  expect(asked.status).toBe(204);
  expect(asked.headers.get("access-control-allow-origin")).toBe(SITE);
  expect(asked.headers.get("access-control-allow-methods")).toContain("PATCH");
  expect(asked.headers.get("access-control-allow-headers")).toContain("X-Scion-Agent-Token");
  expect(asked.headers.get("access-control-max-age")).toBe("3600");
  const reply = await get("/api/v1/projects", { origin: SITE });
  expect(reply.headers.get("access-control-allow-origin")).toBe(SITE);
  expect(reply.headers.get("vary")).toContain("Origin");
  for (const answer of [asked, reply]) expect(answer.headers.get("access-control-allow-credentials")).toBeNull();
  for (const path of ["/login", "/metrics", "/healthz"])
    expect((await get(path, { origin: SITE })).headers.get("access-control-allow-origin")).toBeNull();
});

test("where origins are listed, no other is let", async () => {
  const origin = async (site: string) =>
    (await get("/api/v1/projects", { origin: site }, closed)).headers.get("access-control-allow-origin");
  expect(await origin(SITE)).toBe(SITE);
  expect(await origin("https://evil.example")).toBeNull();
  const asked = await fetch(`${closed.url}/api/v1/agents`, {
    method: "OPTIONS",
    headers: { origin: "https://evil.example", "access-control-request-method": "POST" },
  });
  expect(asked.status).toBe(401);
});

/** What a replica answers to these bytes before it ends the connection, or so far. */
const raw = (replica: InProcessReplica, bytes: string): Promise<string> =>
  new Promise((resolve) => {
    const { hostname, port } = new URL(replica.url);
    const socket = connect(Number(port), hostname, () => socket.write(bytes));
    let answer = "";
    socket.setEncoding("utf8");
    socket.on("data", (chunk: string) => {
      answer += chunk;
      if (answer.includes("\r\n\r\n")) socket.end();
    });
    socket.on("close", () => resolve(answer));
    socket.on("error", () => resolve(answer));
  });

const upgradeOf = (path: string): string =>
  `GET ${path} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n` +
  "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

test.each([
  ["a head of more than 32 KiB", `GET / HTTP/1.1\r\nhost: x\r\n${"x-filler: y\r\n".repeat(4_000)}\r\n`, "431"],
  ["a path of more than 32 KiB", `GET /${"a".repeat(40_000)} HTTP/1.1\r\nhost: x\r\n\r\n`, "431"],
  ["what is no HTTP", "hello\r\n\r\n", "400"],
  ["a WebSocket that is not there", upgradeOf("/nowhere"), "404"],
  ["a WebSocket for nobody", upgradeOf(`/api/v1/agents/${systemRandom.uuid()}/pty`), "401"],
  ["two lengths", "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", "400"],
  [
    "a length and chunks",
    "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "400",
  ],
])("%s is refused", async (_, bytes, status) => {
  const answer = await raw(open, bytes);
  expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
  const head = answer.split("\r\n\r\n", 1)[0]?.toLowerCase();
  expect(head).toContain("x-content-type-options: nosniff");
  expect(head).toContain("content-security-policy: default-src 'none'; frame-ancestors 'none'");
  expect(head).toContain("referrer-policy: no-referrer");
  expect(head).toContain("cache-control: no-store");
});
