import { afterEach, beforeEach, expect, test } from "@jest/globals";
import {
  api,
  eventually,
  type InProcessReplica,
  type ReceivedRequest,
  Scene,
  type SimulatedReply,
  type SimulatedRuntimeBroker,
} from "@rootstock/testkit";

/**
 * A runtime broker that sends what no runtime broker should: callers hear 502 or 202, the database holds nothing half,
 * and the channel goes on where it can.
 */

let scene: Scene;
let replica: InProcessReplica;
let project: string;
let runtimeBroker: SimulatedRuntimeBroker & { readonly id: string };
let agent: string;
/** Answers in the place of the well-behaved one, where it gives something. */
let answer: (request: ReceivedRequest) => SimulatedReply | Promise<SimulatedReply> | undefined;

beforeEach(async () => {
  scene = await Scene.create();
  replica = await scene.replica();
  project = await scene.project(replica);
  answer = () => undefined;
  runtimeBroker = await scene.runtimeBroker(replica, {
    handle: (request) => answer(request) ?? runtimeBroker.agents.handle(request),
  });
  agent = await scene.agent(replica, project, "a1");
});
afterEach(() => scene.end());

const exec = () => api(replica, "POST", `/api/v1/agents/${agent}/exec`, { command: ["true"] });
const send = (msg: string) => api(replica, "POST", `/api/v1/agents/${agent}/message`, { structured_message: { msg } });
const create = (name: string, more: object = {}) =>
  api(replica, "POST", `/api/v1/projects/${project}/agents`, { name, task: "wait", ...more });

/** The usual still works. */
const goesOn = async (): Promise<void> => {
  answer = () => undefined;
  expect((await exec()).status).toBe(200);
  await eventually(async () => (await send("still there?")).status === 200);
  // What came late is settled by itself, and not before a message has passed.
  await eventually(async () => {
    const open = "select state from broker_dispatch where state in ('pending', 'in_progress')";
    expect(await scene.database.query(open)).toEqual([]);
  });
};

test("frames that are garbage are ignored, whatever they are", async () => {
  const id = "00000000-0000-4000-8000-000000000000";
  const frames: readonly (string | Buffer)[] = [
    "",
    "nonsense",
    "[]",
    "null",
    "7",
    '"text"',
    "{",
    "{}",
    '{"type":7}',
    '{"type":"__proto__"}',
    '{"type":"constructor"}',
    '{"type":"response"}',
    '{"type":"response","requestId":7}',
    `{"type":"response","requestId":"${id}","statusCode":200}`,
    '{"type":"response","requestId":"__proto__","statusCode":200}',
    '{"type":"stream"}',
    `{"type":"stream","streamId":"${id}","data":"####"}`,
    `{"type":"stream_close","streamId":"${id}","code":"x"}`,
    '{"type":"connect"}',
    '{"type":"connect","brokerId":7,"rootstock":{"concurrentRequests":-1}}',
    '{"type":"connected","brokerId":"x","sessionId":"y","pingIntervalMs":1}',
    '{"type":"request","requestId":"1","method":"DELETE","path":"/api/v1/agents/a1"}',
    '{"type":"event","event":"heartbeat","payload":{}}',
    '{"type":"error","code":"internal_error","message":"\\u0000"}',
    Buffer.from([0xff, 0xfe, 0x00, 0x80]),
    Buffer.from([0x7b, 0x22, 0xc3, 0x28, 0x22, 0x7d]),
    `{"type":"connect","x":${"[".repeat(100_000)}${"]".repeat(100_000)}}`,
    `{"type":"response","requestId":"${id}","statusCode":200,"body":"${"A".repeat(500_000)}"}`,
  ];
  for (const frame of frames) runtimeBroker.sendRaw(frame);
  await goesOn();
  expect(runtimeBroker.closes).toEqual([]);
});

test("a frame beyond the limit costs the socket; the next one is taken at once, and what waits goes over it", async () => {
  runtimeBroker.holdAnswers();
  const waiting = send("on the wire meanwhile");
  await runtimeBroker.onRequest.next((r) => r.path.endsWith("/message"));
  const closed = runtimeBroker.onClose.next();
  const back = runtimeBroker.onSession.next();
  runtimeBroker.sendRaw("x".repeat(1_048_577));
  expect((await closed).code).toBe(1009);
  await back;
  runtimeBroker.releaseAnswers();
  expect([200, 202]).toContain((await waiting).status);
  await goesOn();
  expect(runtimeBroker.sessions).toHaveLength(2);
});

test.each([0, 99, 600, 1_000, -1, 200.5])("an answer with the status %d is none", async (status) => {
  answer = () => ({ status });
  const ran = await exec();
  expect([ran.status, ran.get("error.code")]).toEqual([502, "runtime_error"]);
  // Repeated after a pause; then it is one that the runtime broker has seen.
  expect([200, 202]).toContain((await send("hello")).status);
  const stopped = await api(replica, "POST", `/api/v1/agents/${agent}/stop`);
  expect([stopped.status, stopped.get("error.code")]).toEqual([502, "runtime_error"]);
  // No endless repetition: it is given time between attempts.
  expect(runtimeBroker.received.filter((r) => r.path.endsWith("/message")).length).toBeLessThan(6);
  await goesOn();
});

test("answers that come twice, or under another request's id, or with other types, concern nobody else", async () => {
  answer = (request) => {
    if (!request.path.endsWith("/exec")) return undefined;
    const { requestId } = request;
    runtimeBroker.sendFrame({ type: "response", requestId: "00000000-0000-4000-8000-000000000000", statusCode: 200 });
    const output = Buffer.from(JSON.stringify({ output: String(Reflect.get(Object(request.json), "timeout")) }));
    const frame = { type: "response", requestId, statusCode: 200, body: output.toString("base64") };
    runtimeBroker.sendFrame(frame);
    runtimeBroker.sendFrame(frame);
    return { status: 500 };
  };
  const timeouts = [11, 12, 13, 14, 15];
  const replies = await Promise.all(
    timeouts.map((timeout) => api(replica, "POST", `/api/v1/agents/${agent}/exec`, { command: ["x"], timeout })),
  );
  expect(replies.map((r) => r.get("output"))).toEqual(timeouts.map(String));

  const malformed: readonly object[] = [
    { statusCode: "200" },
    { statusCode: null },
    { statusCode: 200, body: 7 },
    { statusCode: 200, body: "not base64!" },
    { statusCode: 200, headers: "text" },
    { statusCode: 200, headers: { a: 1 } },
    {},
  ];
  for (const wrong of malformed) {
    answer = ({ requestId }) => {
      runtimeBroker.sendFrame({ type: "response", requestId, ...wrong });
      return { status: 200 };
    };
    const reply = await exec();
    expect([wrong, reply.status, reply.get("error.code")]).toEqual([wrong, 502, "runtime_error"]);
  }
  await goesOn();
});

const deep = `${"[".repeat(20_000)}${"]".repeat(20_000)}`;
const GARBAGE: readonly (readonly [string, SimulatedReply])[] = [
  ["no JSON", { status: 201, body: "nonsense" }],
  ["nothing", { status: 201 }],
  ["a list", { status: 201, body: "[]" }],
  ["null", { status: 201, body: "null" }],
  ["deep", { status: 201, body: `{"agent":${deep}}` }],
  ["wrong types", { status: 201, body: { agent: { phase: 7, containerStatus: [], image: {} } } }],
  ["NUL", { status: 201, body: { agent: { containerStatus: "a\u0000b", image: "\u0000", phase: "\u0000" } } }],
  ["half a pair", { status: 201, body: { agent: { containerStatus: "\ud800", template: "\udfff" } } }],
  ["huge", { status: 201, body: { agent: { containerStatus: "x".repeat(300_000) } } }],
  ["an unknown phase", { status: 201, body: { agent: { phase: "resumed", containerStatus: "?" } } }],
  ["needs of other types", { status: 202, body: { needs: "everything", secretInfo: 7 } }],
  ["needs nobody could keep", { status: 202, body: `{"needs":["A\\u0000"],"secretInfo":{"A":{"x":${deep}}}}` }],
  ["an error with NUL", { status: 500, body: { error: { code: "x\u0000", message: "a\u0000b" } } }],
  ["an error cut in a pair", { status: 500, body: `${"x".repeat(1_999)}\u{1f600}` }],
  ["bytes", { status: 500, body: Buffer.from([0, 0xff, 0xc3, 0x28, 0xed, 0xa0, 0x80]) }],
  ["a redirect", { status: 302, headers: { location: "/" } }],
  ["continue", { status: 100 }],
];

test.each(GARBAGE)("an answer with garbage: %s", async (_, reply) => {
  answer = (request) => (request.method === "POST" ? reply : undefined);
  const post = (verb: string) => api(replica, "POST", `/api/v1/agents/${agent}/${verb}`);
  const calls = { create: await create("odd"), stop: await post("stop"), start: await post("start") };
  for (const [what, called] of Object.entries({ ...calls, restart: await post("restart") })) {
    const told = [what, called.status, called.body.slice(0, 300)];
    expect([...told, [200, 201, 202, 422, 502].includes(called.status)]).toEqual([...told, true]);
  }
  answer = (request) => (request.path.endsWith("/message") ? reply : undefined);
  await api(replica, "POST", `/api/v1/agents/${agent}/start`);
  await scene.ready(replica, agent);
  expect([200, 202, 502]).toContain((await send("hello")).status);
  await goesOn();
});

test("one that never answers: every caller hears so in time, and what comes later concerns nobody", async () => {
  const second = await scene.agent(replica, project, "a2");
  const third = await scene.agent(replica, project, "a3");
  const silent: ReceivedRequest[] = [];
  answer = (request) => {
    silent.push(request);
    return new Promise<SimulatedReply>(() => {});
  };
  const calls = await Promise.all([
    exec(),
    api(replica, "GET", `/api/v1/agents/${agent}/logs`),
    send("anybody?"),
    api(replica, "POST", `/api/v1/agents/${second}/stop`),
    api(replica, "POST", `/api/v1/agents/${third}/restart`),
    create("slow"),
  ]);
  expect(calls.map((c) => c.status)).toEqual([502, 502, 202, 202, 200, 201]);
  for (const { requestId } of silent) runtimeBroker.sendFrame({ type: "response", requestId, statusCode: 200 });
  await goesOn();
});
