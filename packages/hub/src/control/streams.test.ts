import { expect, test } from "@jest/globals";
import { eventually } from "@rootstock/testkit";
import { ControlScene, message } from "./controlScene.testing.ts";
import type { StreamEnd } from "./streams.ts";

/** Streams over the socket of a runtime broker (spec/01 3.7). */

const scene = new ControlScene();
const { connected } = scene;

test("streams: opened, fed in frames that fit, closed from either side and with the socket", async () => {
  const { broker, connection } = await connected();
  const to = await connection();
  const open = async () => {
    const opened = broker.onFrame.next((f) => f.type === "stream_open");
    const [data, ends]: [Buffer[], unknown[]] = [[], []];
    const handle = to.openStream(
      { streamType: "pty", slug: "a", projectId: "p1", cols: 80, rows: 24 },
      { onData: (bytes) => data.push(bytes), onTaken: () => {}, onClose: (end) => ends.push(end) },
    );
    expect(await opened).toMatchObject({
      streamId: handle.streamId,
      slug: "a",
      projectId: "p1",
      groveId: "p1",
      cols: 80,
    });
    return { handle, data, ends };
  };
  const first = await open();
  broker.sendFrame({ type: "stream", streamId: first.handle.streamId, data: Buffer.from("$ ").toString("base64") });
  await eventually(() => first.data.length === 1);
  expect(first.data[0]?.toString()).toBe("$ ");

  const pasted = Buffer.alloc(200_000, "x");
  const pieces: Buffer[] = [];
  broker.onFrame.on((f) => {
    if (f.type === "stream") pieces.push(Buffer.from(String(f.data), "base64"));
  });
  expect(first.handle.write(pasted)).toBe(true);
  await eventually(() => Buffer.concat(pieces).equals(pasted));
  broker.sendFrame({ type: "stream_close", streamId: first.handle.streamId, reason: "session ended", code: 0 });
  await eventually(() => first.ends.length === 1);
  expect(first.ends).toEqual([{ reason: "session ended", code: 0 }]);
  expect(first.handle.write(Buffer.from("x"))).toBe(false);

  const second = await open();
  const closed = broker.onFrame.next((f) => f.type === "stream_close");
  second.handle.close("done");
  expect(await closed).toMatchObject({ streamId: second.handle.streamId, reason: "done" });
  const third = await open();
  broker.cut();
  await eventually(() => third.ends.length === 1);
  expect([second.ends.length, broker.received.length]).toEqual([1, 0]);
});

test("a reader of a stream that fails disturbs nobody else", async () => {
  const { broker, connection } = await connected();
  const to = await connection();
  const opened = broker.onFrame.next((f) => f.type === "stream_open");
  to.openStream(
    { streamType: "pty", slug: "a", projectId: "p1", cols: 80, rows: 24 },
    {
      onData: () => {
        throw new Error("no room");
      },
      onTaken: () => {},
      onClose: () => {},
    },
  );
  const { streamId } = await opened;
  broker.sendFrame({ type: "stream", streamId, data: "eA==" });
  expect((await to.call(message("a"))).status).toBe(200);
});

test("a reason goes no further than anybody reads, however long the runtime broker makes it", async () => {
  const { broker, connection } = await connected();
  const to = await connection();
  const opened = broker.onFrame.next((f) => f.type === "stream_open");
  const ends: StreamEnd[] = [];
  to.openStream(
    { streamType: "pty", slug: "a", projectId: "p1", cols: 80, rows: 24 },
    { onData: () => {}, onTaken: () => {}, onClose: (end) => ends.push(end) },
  );
  const { streamId } = await opened;
  broker.sendFrame({ type: "stream_close", streamId, reason: `failed: ${"x".repeat(500_000)}`, code: 500 });
  await eventually(() => ends.length === 1);
  expect(ends[0]?.reason).toMatch(/^failed: x+$/);
  expect(ends[0]?.reason.length).toBeLessThan(2_000);
});
