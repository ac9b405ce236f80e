import { expect, test } from "@jest/globals";
import { type ApiReply, api, fieldsOf, sampleOf, TEST_TOKEN } from "@rootstock/testkit";
import { exchange } from "./exchange.ts";
import { KeptWorld } from "./keptWorld.ts";
import {
  callAllowed,
  forEach,
  type Ids,
  isStream,
  name,
  nobody,
  nothing,
  parametersOf,
  pathOf,
  problemsOf,
} from "./world.ts";

/**
 * Ids, paths, methods, queries and headers that make no sense, at every declared route.
 */

const world = new KeptWorld();

const ODD_SEGMENTS = [
  "not-a-uuid",
  "%00",
  "%ff%fe",
  "%zz",
  "%",
  "x".repeat(5_000),
  "%F0%9F%92%A9",
  "..%2f..%2fetc%2fpasswd",
  "%27%3B%20drop%20table%20agents%3B--",
  "%20",
  `${nobody}__nothing`,
  `${nobody}%20`,
  `{${nobody}}`,
  "00000000-0000-0000-0000-000000000000",
  "constructor",
  "__proto__",
];

const REFUSED = [400, 401, 403, 404, 405, 409, 422, 501, 503];

/** By its status; a page says it where it sends the person to. */
const isRefused = ({ status, headers }: ApiReply): boolean =>
  REFUSED.includes(status) || (status === 302 && /[?&]error=/.test(headers.get("location") ?? ""));

test("ids that are none, are nobody's, or name something of another kind", async () => {
  const kinds: Ids = {
    projectId: world.now.projectId,
    agentId: world.now.agentId,
    brokerId: world.now.runtimeBroker.id,
  };
  const found = await forEach(
    world.now.routes.filter((r) => parametersOf(r).length > 0),
    async (route) => {
      const body = route.body && sampleOf(route.body);
      const odd = ODD_SEGMENTS.map((segment) => pathOf(route, {}, segment));
      const names = parametersOf(route);
      const foreign = names.flatMap((wrong) =>
        Object.entries(kinds).flatMap(([kind, id]) =>
          kind === wrong ? [] : [pathOf(route, { ...kinds, [wrong]: id }, nobody)],
        ),
      );
      const problems: string[] = [];
      for (const path of [nothing(route), ...odd, ...foreign]) {
        const reply = await callAllowed(world.now, route, path, { body });
        problems.push(...problemsOf(name(route, path.slice(0, 200)), reply, isRefused));
      }
      return problems;
    },
  );
  expect(found).toEqual([]);
  await world.unharmed();
});

test("methods that a path does not have: 405", async () => {
  const methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"];
  const patterns = world.now.routes.map((r) => ({
    method: r.method,
    matches: new RegExp(`^${r.path.replace(/:\w+/g, "[^/]+").replace("*", ".+")}$`),
  }));
  const found = await forEach([...new Set(world.now.routes.map((r) => r.path))], async (pattern) => {
    const path = pathOf({ path: pattern }, {}, nobody);
    const served = patterns.filter((p) => p.matches.test(path)).map((p) => String(p.method));
    const problems: string[] = [];
    for (const method of methods.filter((m) => !served.includes(m))) {
      const reply = await api(world.now.replica, method, path);
      problems.push(...problemsOf(`${method} ${path}`, reply, () => reply.status === 405));
    }
    return problems;
  });
  expect(found).toEqual([]);
  await world.unharmed();
});

test("paths that nobody serves: 404", async () => {
  const paths = ["/api", "/api/v1", "/api/v2/agents", "/api/v1/agents/", "//api/v1/agents", "/api/v1/nothing", "/.env"];
  const found = await forEach(paths, async (path) => {
    const reply = await api(world.now.replica, "GET", path);
    return problemsOf(path, reply, () => reply.status === 404 && reply.get("error.code") === "not_found");
  });
  expect(found).toEqual([]);
});

const ODD_VALUES = [
  "",
  "NaN",
  "-1",
  "0",
  "1e309",
  "99999999999999999999",
  "%00",
  "%ff",
  "%ED%A0%80",
  "%",
  "%zz",
  "x".repeat(9_000),
  "[object%20Object]",
  "'%20or%201=1--",
  nobody,
];

test("query parameters with values that make no sense", async () => {
  const ids = {
    projectId: world.now.projectId,
    agentId: world.now.agentId,
    brokerId: world.now.runtimeBroker.id,
    groupId: "hub-members",
  };
  const found = await forEach(
    world.now.routes.filter((r) => r.query),
    async (route) => {
      const path = pathOf(route, route.method === "GET" ? ids : {}, nobody);
      const problems: string[] = [];
      for (const { path: at } of route.query ? fieldsOf(route.query) : []) {
        const parameter = at[0];
        if (parameter === undefined || at.length > 1) continue;
        const queries = ODD_VALUES.map((value) => `${parameter}=${value}`);
        for (const query of [...queries, `${parameter}=a&${parameter}=b`, `${parameter}[]=a`]) {
          const reply = await callAllowed(world.now, route, `${path}?${query}`);
          problems.push(...problemsOf(name(route, `${path}?${query.slice(0, 99)}`), reply, () => reply.status < 500));
        }
      }
      return problems;
    },
  );
  expect(found).toEqual([]);
  await world.unharmed();
});

test("cursors that are damaged, forged or of another list", async () => {
  const pages = world.now.routes.filter((r) => r.query && fieldsOf(r.query).some((f) => f.path[0] === "cursor"));
  expect(pages.length).toBeGreaterThan(3);
  const first = await api(world.now.replica, "GET", "/api/v1/agents?limit=1");
  const real = first.text("nextCursor");
  const forged = (change: object): string =>
    Buffer.from(JSON.stringify({ ...JSON.parse(Buffer.from(real, "base64url").toString()), ...change })).toString(
      "base64url",
    );
  const cursors = [
    "x",
    "%00",
    "e30",
    "bnVsbA",
    nobody,
    forged({ q: "other" }),
    forged({ i: "no id" }),
    forged({ c: "now" }),
  ];
  const found = await forEach(pages, async (route) => {
    const ids = { projectId: world.now.projectId, agentId: world.now.agentId, groupId: "hub-members" };
    const path = pathOf(route, ids, nobody);
    const replies = await Promise.all(
      cursors.map((cursor) => callAllowed(world.now, route, `${path}?cursor=${cursor}`)),
    );
    return replies.flatMap((r) =>
      problemsOf(name(route, path), r, () => r.status === 400 && r.get("error.details.field") === "cursor"),
    );
  });
  expect(found).toEqual([]);
  for (const c of [-8.64e15, -1e14, 8.64e15, 1e15]) {
    const reply = await api(world.now.replica, "GET", `/api/v1/agents?limit=1&cursor=${forged({ c })}`);
    expect([c, reply.status, reply.get("error.code")]).toEqual([c, 400, "invalid_cursor"]);
  }
});

test("headers that make no sense", async () => {
  const keyed = world.now.routes.filter((r) => r.method === "POST" && r.access.name !== "anyone");
  const found = await forEach(keyed, async (route) => {
    const path = nothing(route);
    const body = route.body && sampleOf(route.body);
    const problems: string[] = [];
    for (const key of ["x".repeat(256), "two words", "\u00e9t\u00e9"]) {
      const reply = await callAllowed(world.now, route, path, { body, headers: { "idempotency-key": key } });
      problems.push(...problemsOf(`${name(route, path)} ${key}`, reply, () => reply.status === 400));
    }
    return problems;
  });
  expect(found).toEqual([]);
  const streams = world.now.routes.filter(isStream);
  const at = { agentId: world.now.agentId, projectId: world.now.projectId };
  const positions = [
    "garbage",
    "%00",
    "AAAA",
    "x".repeat(9_000),
    Buffer.from(`${nobody}|1:1:|2`).toString("base64url"),
  ];
  const streamed = await forEach(streams, async (route) => {
    const path = `${pathOf(route, at, nobody)}${route.repeated ? "?sub=project.%3E" : ""}`;
    const replies = await Promise.all(
      positions.map((id) => callAllowed(world.now, route, path, { headers: { "last-event-id": id } })),
    );
    return replies.flatMap((r) => problemsOf(name(route, path), r, () => r.status === 200 || r.status === 501));
  });
  expect(streamed).toEqual([]);
  const odd = {
    "x-request-id": "a b\tc",
    traceparent: "00-zz",
    "x-forwarded-host": "evil\u00a0host",
    "x-forwarded-proto": "gopher",
    "content-type": "application/x-nothing; charset=\u00e9",
    "content-encoding": "br",
    accept: "x".repeat(2_000),
    "x-scion-plugin-name": "\u00ff".repeat(500),
  };
  const reply = await api(
    world.now.replica,
    "POST",
    `/api/v1/agents/${nobody}/message`,
    { message: "hi" },
    { headers: odd },
  );
  expect([reply.status, reply.get("error.code")]).toEqual([404, "not_found"]);
  expect(reply.headers.get("x-request-id")).not.toBe("a b\tc");
  await world.unharmed();
});

test("bytes that are hardly HTTP: 4xx in the envelope where there is an answer at all", async () => {
  const { host } = new URL(world.now.replica.url);
  const lines = (...given: string[]) => `${given.join("\r\n")}\r\n\r\n`;
  const auth = `Authorization: Bearer ${TEST_TOKEN}`;
  const post = `POST /api/v1/agents/${nobody}/message HTTP/1.1`;
  const tries: readonly (readonly [string, number])[] = [
    ["\u0000\u0001\u0002\r\n\r\n", 400],
    ["GET\r\n\r\n", 400],
    [lines("GET / HTTP/9.9", `Host: ${host}`), 400],
    [lines("GET /api/v1/agents HTTP/1.1", `Host: ${host}`, `X-Long: ${"x".repeat(40_000)}`), 431],
    [lines(`GET /${"x".repeat(40_000)} HTTP/1.1`, `Host: ${host}`), 431],
    [lines("GET /healthz HTTP/1.1", "Host: a b"), 400],
    [lines("GET /healthz HTTP/1.1", "Host: \\"), 400],
    [lines("GET /healthz HTTP/1.1", "Host: 256.256.256.256"), 400],
    [lines("GET /api/v1/agents HTTP/1.1", "Host: 1.2.3.4.5", auth), 400],
    [lines("GET /a\\b HTTP/1.1", `Host: ${host}`), 400],
    [lines("GET nothing HTTP/1.1", `Host: ${host}`), 400],
    [lines("GET /healthz HTTP/1.1"), 400],
    [lines(post, `Host: ${host}`, auth, "Content-Length: -5"), 400],
    [lines(post, `Host: ${host}`, auth, "Content-Length: 5", "Transfer-Encoding: chunked"), 400],
    [`${lines(post, `Host: ${host}`, auth, "Transfer-Encoding: chunked")}zz\r\n`, 400],
    [lines("GET /nowhere HTTP/1.1", `Host: ${host}`, "Connection: Upgrade", "Upgrade: websocket"), 404],
    [
      lines(
        "GET /api/v1/runtime-brokers/connect HTTP/1.1",
        `Host: ${host}`,
        "Connection: Upgrade",
        "Upgrade: websocket",
      ),
      400,
    ],
    [lines("CONNECT example.org:80 HTTP/1.1", `Host: ${host}`), 0],
    [lines("TRACE /healthz HTTP/1.1", `Host: ${host}`, auth), 405],
  ];
  for (const [bytes, status] of tries) {
    const answer = await exchange(world.now.replica.url, bytes);
    const told = [bytes.slice(0, 60), status, answer.slice(0, 400)];
    if (status === 0) continue;
    expect([...told, answer.startsWith(`HTTP/1.1 ${status}`)]).toEqual([...told, true]);
    expect([...told, answer.includes('"error":{"code":"')]).toEqual([...told, true]);
  }
  await world.unharmed();
});
