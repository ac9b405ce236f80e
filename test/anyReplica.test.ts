import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { AGENT_TOKEN_HEADER } from "@rootstock/hub";
import { systemRandom } from "@rootstock/service";
import { api, type EventFrame, eventually, type InProcessReplica, openEventStream, Scene } from "@rootstock/testkit";

/** Nothing lives in one replica: whatever is begun at one goes on at another, over HTTP. */

let scene: Scene;
let a: InProcessReplica;
let b: InProcessReplica;

beforeEach(async () => {
  scene = await Scene.create();
  a = await scene.replica();
  b = await scene.replica();
});
afterEach(() => scene.end());

const messageId = (frame: EventFrame): string => {
  const { data } = Object(frame.data) as { data?: { id?: unknown } };
  return String(data?.id);
};

test("invariant 7: a stream that changes replicas again and again hears every event once and in order, while others write", async () => {
  const project = await scene.project(a);
  await scene.runtimeBroker(a);
  const agent = await scene.agent(b, project, "a1");
  const patterns = [`agent.${agent}.message`];
  const writers = [a, b, a, b];
  const each = 40;
  const writing = Promise.all(
    writers.map(async (replica, w) => {
      for (let i = 0; i < each; i += 1)
        await api(replica, "POST", `/api/v1/agents/${agent}/message`, { message: `${w}:${i}` });
    }),
  );
  const first = await openEventStream(a, { patterns, lastEventId: "" });
  const heard: string[] = first.updates().map(messageId);
  let last = first.frames.findLast((f) => f.id !== undefined)?.id;
  await first.close();
  // What was written before the stream began is nobody's business.
  const stored = () => scene.database.query<{ id: string; msg: string }>("select id, msg from messages");
  let hops = 0;
  let done = false;
  void writing.then(() => {
    done = true;
  });
  for (;;) {
    const wasDone = done;
    const stream = await openEventStream(hops % 2 === 0 ? b : a, { patterns, lastEventId: last });
    hops += 1;
    const wanted = 1 + Math.floor(systemRandom.fraction() * 15);
    if (wasDone) {
      // Of different writers, what has the higher number may be heard first.
      const lasts = (await stored()).filter(({ msg }) => msg.endsWith(`:${each - 1}`));
      await eventually(() => {
        const all = new Set([...heard, ...stream.updates().map(messageId)]);
        return lasts.every(({ id }) => all.has(id));
      });
    } else await eventually(() => stream.updates().length >= wanted || done);
    await stream.close();
    // Cut off in the middle of what had arrived: the rest is heard again from the next replica.
    const taken = wasDone ? stream.frames : upTo(stream.frames, wanted);
    heard.push(...taken.filter((f) => f.event === "update").map(messageId));
    last = taken.findLast((f) => f.id !== undefined)?.id ?? last;
    expect(stream.frames.filter((f) => f.event === "resync")).toEqual([]);
    if (wasDone) break;
  }
  await writing;
  const rows = await stored();
  expect(rows).toHaveLength(writers.length * each);
  expect(hops).toBeGreaterThan(3);
  expect(new Set(heard).size).toBe(heard.length);
  expect(heard.length).toBeGreaterThan(0);
  // Each writer waited for its answer before it went on: from the first that is heard of it, all is heard, as it was written.
  const texts = new Map(rows.map((r) => [r.id, r.msg]));
  for (let w = 0; w < writers.length; w += 1) {
    const own = heard.map((id) => texts.get(id) ?? "").filter((msg) => msg.startsWith(`${w}:`));
    expect(own).toEqual(Array.from({ length: own.length }, (_, i) => `${w}:${each - own.length + i}`));
  }
});

/** The frames up to and including the update number `count`. */
const upTo = (frames: readonly EventFrame[], count: number): readonly EventFrame[] => {
  let updates = 0;
  const end = frames.findIndex((f) => {
    if (f.event === "update") updates += 1;
    return updates === count;
  });
  return end < 0 ? frames : frames.slice(0, end + 1);
};

test("invariant 8: no replica-local truth: each call of a conversation goes to another replica than the one before", async () => {
  const credentials = await scene.join(a, "laptop");
  const runtimeBroker = await scene.connect(b, credentials);
  const beat = await runtimeBroker.heartbeat();
  expect(beat.status).toBe(200);
  const signed = runtimeBroker.sign("GET", "/api/v1/broker/projects", "", Buffer.alloc(0));
  const replay = (replica: InProcessReplica) =>
    api(replica, "GET", "/api/v1/broker/projects", undefined, { headers: { authorization: "", ...signed } });
  expect((await replay(a)).status).toBe(200);
  expect([(await replay(b)).status, (await replay(a)).status]).toEqual([401, 401]);

  const project = await scene.project(a);
  const events = await openEventStream(a, { patterns: [`project.${project}.>`] });
  const position = events.frames.findLast((f) => f.id !== undefined)?.id;
  await events.close();

  const key = { headers: { "idempotency-key": systemRandom.uuid() } };
  const create = (replica: InProcessReplica) =>
    api(replica, "POST", `/api/v1/projects/${project}/agents`, { name: "a1", task: "wait" }, key);
  const made = await create(b);
  expect(made.status).toBe(201);
  const again = await create(a);
  expect([again.status, again.text("agent.id")]).toEqual([201, made.text("agent.id")]);
  const agent = made.text("agent.id");

  const launch = runtimeBroker.received.find((r) => r.path === "/api/v1/agents");
  const token = String(Reflect.get(Object(launch?.json), "agentToken"));
  const asAgent = (of: string) => ({ headers: { authorization: "", [AGENT_TOKEN_HEADER]: of } });
  const refreshed = await api(a, "POST", `/api/v1/agents/${agent}/token/refresh`, undefined, asAgent(token));
  expect(refreshed.status).toBe(200);
  const report = { phase: "running", activity: "working" };
  const reported = await api(b, "POST", `/api/v1/agents/${agent}/status`, report, asAgent(refreshed.text("token")));
  expect(reported.status).toBe(200);
  expect((await api(a, "POST", `/api/v1/agents/${agent}/message`, { message: "hello" })).status).toBe(200);
  expect((await api(b, "GET", `/api/v1/agents/${agent}/messages`)).list("items")).toHaveLength(1);
  expect((await api(a, "GET", `/api/v1/agents/${agent}/logs`)).status).toBe(200);

  const page = await api(b, "GET", "/api/v1/runtime-brokers?limit=1");
  expect(page.status).toBe(200);
  const resumed = await openEventStream(b, { patterns: [`project.${project}.>`], lastEventId: position });
  await eventually(() =>
    resumed.updates().some((u) => Reflect.get(Object(u.data), "subject") === `project.${project}.agent.created`),
  );
  await resumed.close();
  expect((await api(a, "POST", `/api/v1/agents/${agent}/stop`)).get("phase")).toBe("stopped");
  expect((await api(b, "DELETE", `/api/v1/agents/${agent}`)).status).toBe(204);
  expect((await api(a, "POST", `/api/v1/agents/${agent}/status`, report, asAgent(token))).status).toBe(401);
});
