import { readFileSync } from "node:fs";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { systemClock, systemRandom } from "@rootstock/service";
import {
  type ApiReply,
  api,
  databaseAt,
  eventually,
  type OwnedPostgres,
  type ReplicaProcess,
  Scene,
  SimulatedRuntimeBroker,
  startEmbeddedPostgres,
  startReplicaProcess,
} from "@rootstock/testkit";

/**
 * A database that hangs: it keeps its connections, takes new ones, and answers nothing. Worse than one that is away,
 * which at least refuses.
 */

/** What clients wait (spec/01 rule 10: 30 s) with something to spare. */
const ANSWERED_WITHIN_MS = 25_000;
/** Once the silence is noticed, nobody waits for it any more. */
const REFUSED_WITHIN_MS = 2_000;
const MEGABYTE = 1_048_576;

let postgres: OwnedPostgres;
let scene: Scene;

beforeEach(async () => {
  postgres = await startEmbeddedPostgres();
  scene = await Scene.create(databaseAt(postgres.url));
  scene.onEnd(() => postgres.stop());
});
afterEach(async () => {
  await postgres.thaw();
  await scene.end();
});

const replica = async (name: string): Promise<ReplicaProcess> => {
  const process = await startReplicaProcess({ databaseUrl: postgres.url, name });
  scene.onEnd(async () => {
    process.signal("SIGKILL");
    await process.exited;
  });
  return process;
};

const residentBytes = (pid: number): number =>
  Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024;

interface Answered {
  readonly what: string;
  readonly reply: ApiReply;
  readonly ms: number;
}

const timed = async (what: string, call: () => Promise<ApiReply>): Promise<Answered> => {
  const began = systemClock.elapsed();
  const reply = await call();
  return { what, reply, ms: systemClock.elapsed() - began };
};

test("replicas stay up and refuse clearly and soon, are not ready, keep their sockets, lose nothing, pile nothing up, and recover", async () => {
  const owner = await replica("owner");
  const entry = await replica("entry");
  const project = await scene.project(entry);
  const runtimeBroker = await scene.runtimeBroker(owner);
  const agent = await scene.agent(entry, project, "a1");
  const other = await scene.agent(entry, project, "a2");
  const late = await scene.join(entry, "late");
  const send = (to: ReplicaProcess, msg: string, key = msg) =>
    api(
      to,
      "POST",
      `/api/v1/agents/${agent}/message`,
      { structured_message: { msg } },
      { headers: { "idempotency-key": key.replaceAll(" ", "-") } },
    );
  expect((await send(entry, "before")).status).toBe(200);

  // On the wire when the database goes.
  runtimeBroker.holdAnswers();
  const stopping = timed("stop under way", () => api(entry, "POST", `/api/v1/agents/${other}/stop`));
  await runtimeBroker.onRequest.next((r) => r.path.endsWith("/stop"));
  const onWire = timed("message under way", () => send(entry, "on the wire"));
  await runtimeBroker.onRequest.next((r) => r.path.endsWith("/message"));
  await postgres.freeze();
  const frozenAt = systemClock.elapsed();
  runtimeBroker.releaseAnswers();

  const calls: readonly [string, (to: ReplicaProcess) => Promise<ApiReply>][] = [
    ["message", (to) => send(to, `to ${to.name}`)],
    ["list", (to) => api(to, "GET", `/api/v1/projects/${project}/agents`)],
    ["start", (to) => api(to, "POST", `/api/v1/agents/${agent}/restart`)],
    ["project", (to) => api(to, "POST", "/api/v1/projects", { name: "more" })],
  ];
  const first = Promise.all(
    [owner, entry].flatMap((to) => calls.map(([what, call]) => timed(`${what} at ${to.name}`, () => call(to)))),
  );
  const beat = timed("heartbeat", async () => {
    const reply = await runtimeBroker.heartbeat();
    return { status: reply.status, get: () => undefined } as unknown as ApiReply;
  });
  for (const r of [owner, entry])
    await eventually(async () => {
      const ready = await api(r, "GET", "/readyz");
      expect([ready.status, ready.get("checks.database")]).toEqual([503, "unavailable"]);
    });

  const unavailable = (a: Answered) => expect([a.what, a.reply.status]).toEqual([a.what, 503]);
  for (const answered of [...(await first), await beat]) {
    unavailable(answered);
    expect(answered.ms).toBeLessThan(ANSWERED_WITHIN_MS);
  }

  // One that stood still itself for a moment (a busy machine) gives the database that much longer.
  for (const r of [owner, entry])
    await eventually(async () => {
      const answered = await timed(`later at ${r.name}`, () => send(r, "soon?", systemRandom.uuid()));
      unavailable(answered);
      expect(answered.ms).toBeLessThan(REFUSED_WITHIN_MS);
    });

  // Many more come meanwhile: none of them waits, and none is kept.
  const dialler = new SimulatedRuntimeBroker({ hubUrl: entry.url, credentials: late, firstRetryMs: 50 });
  scene.onEnd(() => dialler.stop());
  const refusedDial = dialler.onRefusedDial.next();
  void dialler.connect();
  expect(await refusedDial).toBe(503);
  // A heap that has never been so busy grows at first: what counts is whether it goes on.
  let halfway: readonly number[] | undefined;
  for (let round = 0; systemClock.elapsed() - frozenAt < 20_000; round += 1) {
    if (systemClock.elapsed() - frozenAt > 15_000) halfway ??= [owner, entry].map((r) => residentBytes(r.pid));
    const answers = await Promise.all(
      [owner, entry].flatMap((to) =>
        Array.from({ length: 25 }, (_, i) =>
          timed(`later at ${to.name}`, () => send(to, `later ${i}`, `${round} ${i}`)),
        ),
      ),
    );
    for (const answered of answers) {
      unavailable(answered);
      expect(answered.ms).toBeLessThan(REFUSED_WITHIN_MS);
      expect(answered.reply.headers.has("retry-after")).toBe(true);
    }
  }
  for (const [i, r] of [owner, entry].entries())
    expect((residentBytes(r.pid) - (halfway?.[i] ?? 0)) / MEGABYTE).toBeLessThan(200);
  for (const answered of [await stopping, await onWire]) {
    expect([200, 202, 503]).toContain(answered.reply.status);
    expect(answered.ms).toBeLessThan(ANSWERED_WITHIN_MS + 3_000);
  }

  await postgres.thaw();
  for (const r of [owner, entry]) await eventually(async () => (await api(r, "GET", "/readyz")).status === 200);
  // What was answered "unavailable" is repeated with its key until it is certain.
  for (const [to, text] of [
    [entry, "on the wire"],
    [owner, "to owner"],
    [entry, "to entry"],
    [entry, "after"],
  ] as const)
    await eventually(async () => (await send(to, text)).status < 300);
  await eventually(async () => {
    const open = await scene.database.query("select state, msg from messages where state <> 'delivered'");
    expect(open).toEqual([]);
  });
  await eventually(async () => (await api(owner, "GET", `/api/v1/agents/${other}`)).get("phase") === "stopped");
  const texts = runtimeBroker.delivered.map((d) =>
    String(Reflect.get(Object(Reflect.get(Object(d.body), "structured_message")), "msg")),
  );
  expect(texts.filter((t) => !t.startsWith("later"))).toEqual(
    expect.arrayContaining(["before", "on the wire", "to owner", "to entry", "after"]),
  );
  expect(new Set(texts.filter((t) => !t.startsWith("later"))).size).toBe(5);
  expect(texts.filter((t) => t === "after")).toHaveLength(1);
  expect(runtimeBroker.closes).toEqual([]);
  expect(await scene.database.query("select 1 from hub_replicas")).toHaveLength(2);
  await eventually(() => dialler.session !== undefined);
});
