import { afterAll, beforeAll, expect, test } from "@jest/globals";
import {
  ApiReply,
  api,
  eventually,
  LogClient,
  type Replica,
  Scene,
  TerminalClient,
  testLogin,
} from "@rootstock/testkit";
import { agentOn, refusal, replicaProcess } from "./terminal/stage.ts";

/** What somebody may hold open at once is counted by all replicas together, and a replica that is gone holds nothing. */

const MOST = 3;
const ENV = { ROOTSTOCK_TEST_LOGIN: "1", ROOTSTOCK_RATE_LIMITS: `streams=${MOST}` };
let scene: Scene;
let a: Replica;
let b: Replica;
let ways: readonly [Replica, Replica];

beforeAll(async () => {
  scene = await Scene.create();
  [a, b] = [await scene.replica(ENV), await scene.replica(ENV)];
  ways = [a, b];
});
afterAll(() => scene.end());

interface Opened {
  readonly status: number;
  readonly refusal: ApiReply | undefined;
  close(): void;
}

const open = async (replica: Replica, token: string, path = "/events?sub=%3E"): Promise<Opened> => {
  const gone = new AbortController();
  const response = await fetch(`${replica.url}${path}`, {
    headers: { authorization: `Bearer ${token}` },
    signal: gone.signal,
  });
  const { status, headers } = response;
  const body = response.text();
  // Read to its end, whenever that is: fetch closes a stream that nobody reads when its answer is collected as garbage.
  if (status === 200) body.catch(() => {});
  const refused = status === 200 ? undefined : new ApiReply(status, headers, await body);
  return { status, refusal: refused, close: () => gone.abort() };
};
const signIn = async (name: string): Promise<string> =>
  (await testLogin(a, { email: `${name}@example.org`, role: "admin" })).text("accessToken");
/** Opens and closes until it is let in: what was closed before is given back when the replica has noticed. */
const canOpen = (replica: Replica, token: string) =>
  eventually(async () => {
    const stream = await open(replica, token);
    stream.close();
    return stream.status === 200;
  }, 20_000);

/** Resolves when no more replicas than these hold the lock that shows that they live. */
const locksGone = (left: number) =>
  eventually(async () => {
    const held = await scene.database.query(
      `select from pg_locks l join hub_replicas r on r.lock_key = (l.classid::bigint << 32 | l.objid::bigint)
        where l.locktype = 'advisory' and l.granted`,
    );
    return held.length === left;
  });

test("streams of one person are bounded over all replicas, whatever they are and whatever token asks", async () => {
  const ann = await signIn("ann");
  const { agent } = await agentOn(scene, a, b);
  const project = (await api(a, "GET", `/api/v1/agents/${agent}`)).text("projectId");
  const asked = { name: "ci", projectId: project, scopes: ["agent:attach"] };
  const program = (await api(a, "POST", "/api/v1/auth/tokens", asked, { token: ann })).text("token");
  const events = await open(a, ann);
  const log = await LogClient.follow(b, agent, { token: program });
  const terminal = await TerminalClient.attach(b, agent, { token: ann });
  expect([events.status, log instanceof LogClient]).toEqual([200, true]);
  for (const replica of ways) {
    const { status, refusal: refused } = await open(replica, ann);
    expect(status).toBe(429);
    expect(refused?.get("error.code")).toBe("too_many_streams");
    expect(refused?.get("error.details")).toEqual({ limit: "streams", max: MOST });
    expect(Number(refused?.headers.get("retry-after"))).toBeGreaterThan(0);
    expect((await open(replica, ann, `/api/v1/agents/${agent}/messages/stream`)).status).toBe(429);
    expect(await LogClient.follow(replica, agent, { token: program })).toMatchObject({ status: 429 });
    expect(await refusal(replica, agent, { token: program })).toMatchObject({ status: 429 });
    expect((await open(replica, await signIn("bea"))).status).toBe(200);
  }
  const metrics = (await api(b, "GET", "/metrics")).body;
  expect(metrics).toMatch(/rootstock_rate_limited_total\{limit="streams"\} 4/);
  expect(metrics).toMatch(/rootstock_held_streams 3/);
  // Whatever of it is closed makes room, anywhere.
  terminal.close();
  await canOpen(a, ann);
  if (log instanceof LogClient) log.cut();
  await canOpen(b, ann);
  events.close();
  await eventually(async () => {
    const held = await scene.database.query("select held from open_streams order by whom");
    return held.flatMap(({ held: by }) => Object.values(Object(by))).filter((n) => n !== 0).length === 2;
  });
});

test("of many that are asked for at the same moment everywhere, as many are opened as may be", async () => {
  const cleo = await signIn("cleo");
  const opened = await Promise.all(Array.from({ length: 24 }, (_, i) => open(ways[i % 2] ?? a, cleo)));
  expect(opened.filter((o) => o.status === 200)).toHaveLength(MOST);
  expect(opened.filter((o) => o.status === 429)).toHaveLength(24 - MOST);
  for (const stream of opened) stream.close();
  await canOpen(b, cleo);
});

test("what a replica held that was killed counts no longer", async () => {
  const dan = await signIn("dan");
  const c = await replicaProcess(scene, "killed", ENV);
  for (let i = 0; i < MOST; i += 1) expect((await open(c, dan)).status).toBe(200);
  expect((await open(a, dan)).status).toBe(429);
  c.signal("SIGKILL");
  await c.exited;
  await locksGone(2);
  // Long before anybody calls it dead: who was cut off comes back at once.
  for (let i = 0; i < MOST; i += 1) expect((await open(a, dan)).status).toBe(200);
  for (const replica of ways) expect((await open(replica, dan)).status).toBe(429);
  expect(await scene.database.query("select from hub_replicas")).toHaveLength(3);
});

test("what a replica holds that was taken for dead and is not counts again", async () => {
  const fay = await signIn("fay");
  const held = [await open(a, fay), await open(a, fay), await open(a, fay)];
  expect(held.map(({ status }) => status)).toEqual([200, 200, 200]);
  // As the others do it: whoever counts no longer is forgotten a while later.
  await scene.database.query("with gone as (delete from hub_replicas) delete from open_streams");
  await eventually(async () => {
    const stream = await open(b, fay);
    stream.close();
    return stream.status === 429;
  }, 20_000);
  for (const stream of held) stream.close();
});

test("whoever looks with HEAD holds nothing", async () => {
  const eve = await signIn("eve");
  for (let i = 0; i < 2 * MOST; i += 1)
    await eventually(async () => {
      const { status } = await fetch(`${a.url}/events?sub=%3E`, {
        method: "HEAD",
        headers: { authorization: `Bearer ${eve}` },
      });
      return status === 200;
    });
});
