import type { IncomingHttpHeaders } from "node:http";
import { afterEach, expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import {
  type ApiReply,
  api,
  eventually,
  type InProcessReplica,
  Scene,
  TEST_TOKEN,
  testLogin,
} from "@rootstock/testkit";
import { WebSocket } from "ws";

/** Rate limits: counted by all replicas together, and nobody is locked out by somebody elsewhere (spec/03 section 8). */

const TRUSTING = { ROOTSTOCK_TEST_LOGIN: "1", ROOTSTOCK_TRUSTED_PROXIES: "127.0.0.0/8, ::1" };
const SCRAPE = "9f3c62a1d07be845";
let scene: Scene;
afterEach(() => scene.end());

const replicas = async (limits: string): Promise<readonly [InProcessReplica, InProcessReplica]> => {
  scene = await Scene.create();
  const env = { ...TRUSTING, ROOTSTOCK_METRICS_TOKEN: SCRAPE, ROOTSTOCK_RATE_LIMITS: limits };
  return [await scene.replica(env), await scene.replica(env)];
};
const from = (address: string) => ({ "x-forwarded-for": address });
const refresh = (replica: InProcessReplica, address: string) =>
  api(replica, "POST", "/api/v1/auth/refresh", { refreshToken: "a.b.c" }, { headers: from(address) });
const count = (replies: readonly ApiReply[], status: number) => replies.filter((r) => r.status === status).length;

test("weak points section 8: guesses at a door are counted by all replicas together, address by address", async () => {
  const [a, b] = await replicas("refresh=10/h");
  const replies: ApiReply[] = [];
  for (let i = 0; i < 15; i += 1) replies.push(await refresh(i % 2 === 0 ? a : b, "203.0.113.1"));
  expect(replies.map((r) => r.status)).toEqual([...Array<number>(10).fill(401), ...Array<number>(5).fill(429)]);
  const refused = replies.at(-1);
  expect(refused?.get("error.code")).toBe("rate_limited");
  expect(refused?.get("error.details")).toEqual({ limit: "refresh" });
  const seconds = Number(refused?.headers.get("retry-after"));
  expect(seconds).toBeGreaterThan(300);
  expect(seconds).toBeLessThanOrEqual(360);
  expect(refused?.headers.get("ratelimit-policy")).toBe('"refresh";q=10;w=3600');
  expect(refused?.headers.get("ratelimit")).toBe(`"refresh";r=0;t=${seconds}`);
  // Somebody elsewhere, and the next customer of the same provider, are not the guesser; the same customer is.
  expect((await refresh(a, "203.0.113.2")).status).toBe(401);
  for (let i = 0; i < 10; i += 1) await refresh(a, `2001:db8:0:1::${i}`);
  expect((await refresh(b, "2001:0db8::1:a:b:c:d")).status).toBe(429);
  expect((await refresh(b, "2001:db8:0:2::1")).status).toBe(401);
  expect((await api(a, "GET", "/metrics")).body).toMatch(/rootstock_rate_limited_total\{limit="refresh"\} [1-9]/);
});

test("a client cannot choose its address: what stands before the last proxy's entry counts for nothing", async () => {
  const [a] = await replicas("refresh=2/h");
  for (let i = 0; i < 2; i += 1) expect((await refresh(a, `198.51.100.${i}, 203.0.113.9`)).status).toBe(401);
  expect((await refresh(a, "198.51.100.77, 203.0.113.9")).status).toBe(429);
});

test("weak points section 8: who tries tokens is kept out, and who works at the same address is not", async () => {
  const [a, b] = await replicas("failure=5/h");
  const address = "203.0.113.1";
  const me = (replica: InProcessReplica, token: string, at = address) =>
    api(replica, "GET", "/api/v1/auth/me", undefined, { token, headers: from(at) });
  const ann = (await testLogin(a, { email: "ann@example.org" })).text("accessToken");
  for (const replica of [a, b]) expect((await me(replica, ann)).status).toBe(200);
  const guess = (i: number) => `scion_pat_${String(i).padStart(43, "x")}`;
  const guesses: number[] = [];
  for (let i = 0; i < 12; i += 1) guesses.push((await me(i % 2 === 0 ? a : b, guess(i))).status);
  expect(guesses).toEqual([...Array<number>(5).fill(401), ...Array<number>(7).fill(429)]);
  // Nor do many at once come through.
  const other = await Promise.all(
    Array.from({ length: 40 }, (_, i) => me(i % 2 === 0 ? a : b, guess(i), "203.0.113.7")),
  );
  expect([count(other, 401), count(other, 429)]).toEqual([5, 35]);
  for (const replica of [a, b]) expect((await me(replica, ann)).status).toBe(200);
  expect((await me(a, guess(100), "203.0.113.2")).status).toBe(401);
  // Nor is who comes there for the first time with what is good, at whichever replica: what operators have put into
  // their configuration included.
  const bea = (await testLogin(a, { email: "bea@example.org" })).text("accessToken");
  for (const replica of [a, b])
    for (const token of [bea, TEST_TOKEN]) expect((await me(replica, token)).status).toBe(200);
  for (const replica of [a, b])
    expect((await api(replica, "GET", "/metrics", undefined, { token: SCRAPE, headers: from(address) })).status).toBe(
      200,
    );
  // What is thought up is looked at as well, and is worth no more.
  for (const token of [`scion_dev_${"0".repeat(64)}`, "metrics"]) expect((await me(a, token)).status).toBe(429);
});

test("whose session has ended reaches the page where one signs in, wherever somebody guesses", async () => {
  const [a, b] = await replicas("failure=1/h");
  const login = await testLogin(a, { email: "ann@example.org" });
  const cookie = login.headers.get("set-cookie")?.split(";", 1)[0] ?? "";
  const asks = (replica: InProcessReplica, path: string) =>
    api(replica, "GET", path, undefined, {
      headers: { authorization: "", cookie, accept: "text/html", ...from("203.0.113.1") },
    });
  const page = async () => {
    const { status, body, headers } = await asks(b, "/login");
    return { status, title: /<title>([^<]*)/.exec(body)?.[1], cookie: headers.get("set-cookie") };
  };
  expect(await page()).toMatchObject({ status: 200, title: expect.stringContaining("Signed in") });
  for (const replica of [a, b, a, b])
    await api(replica, "GET", "/api/v1/auth/me", undefined, { token: "guessed", headers: from("203.0.113.1") });
  const everywhere = await api(a, "POST", "/api/v1/auth/sign-out-everywhere", {}, { token: login.text("accessToken") });
  expect(everywhere.status).toBeLessThan(300);
  await eventually(async () => {
    const { status, title, cookie } = await page();
    expect({ status, title }).toEqual({ status: 200, title: expect.stringContaining("Sign in") });
    expect(cookie).toMatch(/Max-Age=0/i);
  });
});

test("programs that wait for a code cannot be made without end by one address", async () => {
  const [a, b] = await replicas("");
  const begin = (replica: InProcessReplica, address: string) =>
    api(replica, "POST", "/api/v1/auth/cli/device", {}, { headers: { authorization: "", ...from(address) } });
  const replies: ApiReply[] = [];
  for (let i = 0; i < 140; i += 1) replies.push(await begin(i % 2 === 0 ? a : b, "203.0.113.1"));
  const refused = replies.filter((r) => r.status === 429);
  expect(refused.length).toBeGreaterThan(5);
  expect(refused[0]?.get("error.details")).toEqual({ limit: "device" });
  expect((await begin(a, "203.0.113.2")).status).not.toBe(429);
});

/** Waits until so many calls of the one person who was counted are counted by all. */
const counted = (calls: number, perHour: number) =>
  eventually(async () => {
    const [row] = await scene.database.query<{ debt: string }>(
      "select extract(epoch from full_at - now()) as debt from rate_buckets where key like 'principal %' order by full_at desc limit 1",
    );
    expect(Math.ceil((Number(row?.debt ?? 0) * perHour) / 3_600)).toBe(calls);
  });

test("calls of one person are bounded over all replicas, and those of others go on", async () => {
  const [a, b] = await replicas("principal=20/h");
  const c = await scene.replica({ ...TRUSTING, ROOTSTOCK_RATE_LIMITS: "principal=20/h" });
  const ann = (await testLogin(a, { email: "ann@example.org" })).text("accessToken");
  const bea = (await testLogin(a, { email: "bea@example.org" })).text("accessToken");
  const me = (replica: InProcessReplica, token: string) => api(replica, "GET", "/api/v1/auth/me", undefined, { token });
  const statuses: number[] = [];
  const passed = () => statuses.filter((status) => status === 200).length;
  for (let i = 0; i < 60; i += 1) {
    statuses.push((await me([a, b, c][i % 3] ?? a, ann)).status);
    await counted(passed(), 20);
  }
  // What two of them let through while they ask, and had heard by the next call but one.
  expect(passed()).toBeGreaterThanOrEqual(20);
  expect(passed()).toBeLessThanOrEqual(20 + 2 * 2);
  expect(statuses.filter((status) => status === 429)).toHaveLength(60 - passed());
  for (const replica of [a, b, c]) expect((await me(replica, bea)).status).toBe(200);
});

test("a person has one budget, whichever of their tokens they call with", async () => {
  const [a] = await replicas("principal=100/h:100");
  const ann = (await testLogin(a, { email: "ann@example.org" })).text("accessToken");
  const projectId = (await api(a, "POST", "/api/v1/projects", { name: "demo" }, { token: ann })).text("id");
  const tokens = await Promise.all(
    ["one", "two", "three", "four", "five"].map(async (name) => {
      const asked = { name, projectId, scopes: ["project:read"] };
      return (await api(a, "POST", "/api/v1/auth/tokens", asked, { token: ann })).text("token");
    }),
  );
  const replies: ApiReply[] = [];
  for (let i = 0; i < 150; i += 1)
    replies.push(await api(a, "GET", `/api/v1/projects/${projectId}`, undefined, { token: tokens[i % 5] ?? "" }));
  // The project and the tokens were calls as well; at 100 an hour one may have come back meanwhile.
  expect(count(replies, 200)).toBeGreaterThanOrEqual(94);
  expect(count(replies, 200)).toBeLessThanOrEqual(95);
  expect(count(replies, 200) + count(replies, 429)).toBe(150);
});

/** What a WebSocket that is asked for is refused with. */
const upgradeAnswer = (replica: InProcessReplica, path: string, headers: Readonly<Record<string, string>>) =>
  new Promise<{ readonly status: number; readonly headers: IncomingHttpHeaders }>((resolve) => {
    const ws = new WebSocket(`${replica.url.replace("http", "ws")}${path}`, { headers });
    ws.on("error", () => {});
    ws.once("open", () => {
      resolve({ status: 101, headers: {} });
      ws.close();
    });
    ws.once("unexpected-response", (request, { statusCode = 0, headers: told }) => {
      resolve({ status: statusCode, headers: told });
      request.destroy();
    });
  });
const upgradeStatus = async (...asked: Parameters<typeof upgradeAnswer>): Promise<number> =>
  (await upgradeAnswer(...asked)).status;

test("WebSockets that are asked for count as calls, by whom and from where", async () => {
  const [a] = await replicas("principal=100/h:100, address=200/h:200");
  const ann = (await testLogin(a, { email: "ann@example.org" })).text("accessToken");
  const ask = (path: string, headers: Readonly<Record<string, string>>) => upgradeStatus(a, path, headers);
  const refused = async (path: string, headers: Readonly<Record<string, string>>, usual: number): Promise<void> => {
    const answers: number[] = [];
    for (let i = 0; i < 400; i += 1) answers.push(await ask(path, headers));
    expect(new Set(answers)).toEqual(new Set([usual, 429]));
  };
  const agent = `/api/v1/agents/${systemRandom.uuid()}`;
  await refused(`${agent}/pty`, { authorization: `Bearer ${ann}`, ...from("203.0.113.1") }, 404);
  await refused(`${agent}/ports/tunnel`, from("203.0.113.2"), 401);
  expect(await ask(`${agent}/ports/tunnel`, from("203.0.113.3"))).toBe(401);
});

test("calls whose credential proves nothing count by address as well, whatever it is", async () => {
  const [a] = await replicas("address=20/h, failure=off");
  for (const [at, headers] of [
    ["203.0.113.1", { authorization: "Bearer guessed" }],
    ["203.0.113.2", { authorization: "", cookie: "rootstock_session=forged" }],
  ] as const) {
    const replies: ApiReply[] = [];
    for (let i = 0; i < 30; i += 1)
      replies.push(await api(a, "GET", "/api/v1/auth/me", undefined, { headers: { ...headers, ...from(at) } }));
    expect([count(replies, 401), count(replies, 429)]).toEqual([20, 10]);
    expect(replies.at(-1)?.get("error.details")).toEqual({ limit: "address" });
  }
});

test("making things has a limit of its own, exact over all replicas", async () => {
  const [a, b] = await replicas("create=5/h");
  const ann = (await testLogin(a, { email: "ann@example.org" })).text("accessToken");
  const replies = await Promise.all(
    Array.from({ length: 20 }, (_, i) =>
      api(i % 2 === 0 ? a : b, "POST", "/api/v1/projects", { name: `p${i}` }, { token: ann }),
    ),
  );
  expect([count(replies, 201), count(replies, 429)]).toEqual([5, 15]);
  for (const replica of [a, b]) {
    expect((await api(replica, "POST", "/api/v1/projects", { name: "more" }, { token: ann })).status).toBe(429);
    expect((await api(replica, "GET", "/api/v1/projects", undefined, { token: ann })).status).toBe(200);
  }
});

test("opening terminals has one as well", async () => {
  const [a, b] = await replicas("terminal=3/h");
  const ann = (await testLogin(a, { email: "ann@example.org", role: "admin" })).text("accessToken");
  const projectId = await scene.project(a);
  await scene.runtimeBroker(a);
  const agentId = await scene.agent(a, projectId, "a1");
  const statuses: number[] = [];
  for (let i = 0; i < 8; i += 1)
    statuses.push(
      await upgradeStatus(i % 2 === 0 ? a : b, `/api/v1/agents/${agentId}/pty`, { authorization: `Bearer ${ann}` }),
    );
  expect(statuses.map((status) => status === 429)).toEqual([
    ...Array<boolean>(3).fill(false),
    ...Array<boolean>(5).fill(true),
  ]);
  const headers = { authorization: `Bearer ${ann}` };
  expect((await upgradeAnswer(a, `/api/v1/agents/${agentId}/pty`, headers)).headers).toMatchObject({
    "retry-after": expect.stringMatching(/^\d+$/),
    "ratelimit-policy": expect.stringMatching(/^"terminal";q=3;w=\d+$/),
    ratelimit: expect.stringMatching(/^"terminal";r=0;t=\d+$/),
  });
});

test("heartbeats count as calls where they come one after the other, and by themselves as they usually do", async () => {
  const [a, b] = await replicas("principal=20/h:20");
  const [flooding, other] = [await scene.runtimeBroker(a), await scene.runtimeBroker(b)];
  const statuses: number[] = [];
  for (let i = 0; i < 60; i += 1) statuses.push((await flooding.heartbeat()).status);
  expect(statuses.slice(0, 10)).toEqual(Array<number>(10).fill(200));
  await eventually(async () => (await flooding.heartbeat()).status === 429);
  expect((await other.heartbeat()).status).toBe(200);
  const counted = await scene.database.query("select key from rate_buckets where key like 'principal %'");
  expect(counted).toHaveLength(1);
});

test("limits can be switched off", async () => {
  const [a] = await replicas("off");
  const replies = await Promise.all(Array.from({ length: 50 }, () => refresh(a, "203.0.113.1")));
  expect(count(replies, 401)).toBe(50);
  expect(await scene.database.query("select key from rate_buckets")).toEqual([]);
});
