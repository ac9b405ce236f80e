import { expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import { eventually } from "@rootstock/testkit";
import { ControlScene, message } from "./controlScene.testing.ts";

/** A runtime broker that sends what no runtime broker should. */

const scene = new ControlScene();
const { connected } = scene;

test("garbage of every kind neither crashes nor disturbs", async () => {
  const { broker, connection } = await connected();
  const to = await connection();
  for (const text of [
    "",
    "{",
    "null",
    "[]",
    "17",
    '"text"',
    "{}",
    '{"type":null}',
    '{"type":"connect"}',
    '{"type":"connect","brokerId":7,"rootstock":{"concurrentRequests":-1}}',
    '{"type":"response"}',
    '{"type":"response","requestId":"nobody","statusCode":200}',
    '{"type":"stream","streamId":"nobody","data":"!!"}',
    '{"type":"stream","streamId":{}}',
    '{"type":"stream_close"}',
    '{"type":"event","event":"heartbeat"}',
    '{"type":"__proto__"}',
    `{"type":"${"x".repeat(100_000)}"}`,
  ])
    broker.sendRaw(text);
  broker.sendRaw(systemRandom.bytes(10_000));
  broker.sendRaw(Buffer.from('{"type":"ping","timestamp":1}'));
  await broker.onFrame.next((frame) => frame.type === "pong");
  expect((await to.call(message("a"))).status).toBe(200);
  expect(broker.sessions).toHaveLength(1);
});

test.each([
  ["status", { statusCode: "fine" }],
  ["status", { statusCode: 7 }],
  ["headers", { statusCode: 200, headers: { a: 1 } }],
  ["body", { statusCode: 200, body: "!!!" }],
])("an answer with a malformed %s ends the wait at once, in doubt", async (_, answer) => {
  const { broker, connection } = await connected();
  const to = await connection();
  broker.holdAnswers();
  broker.onRequest.on((r) => broker.sendFrame({ type: "response", requestId: r.requestId, ...answer }));
  await expect(to.call(message("a"))).rejects.toMatchObject({ kind: "lost" });
});

test("a frame beyond every limit closes the channel and nothing else", async () => {
  const { broker, plane, connection } = await connected({ redials: false }, { legacyMaxReplyBytes: 100_000 });
  await connection();
  broker.sendRaw("x".repeat(200_000));
  await eventually(() => plane.registry.size === 0);
  await eventually(() => broker.closes.length > 0);
  expect(broker.closes[0]?.code).toBe(1009);
});
