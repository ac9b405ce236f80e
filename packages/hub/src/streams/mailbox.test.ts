import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import type { StreamFrameRow } from "@rootstock/store";
import {
  createTestDatabase,
  eventually,
  type StoreStack,
  startStoreStack,
  type TestDatabase,
} from "@rootstock/testkit";
import { SecretBox } from "../secrets/index.ts";
import { Conversation } from "./conversation.ts";
import { type FrameSignals, Mailbox } from "./mailbox.ts";
import { SealedFrames } from "./sealedFrames.ts";

let database: TestDatabase;
let stack: StoreStack;
let mailboxes: Mailbox[];

beforeEach(async () => {
  database = await createTestDatabase();
  stack = await startStoreStack(database.url);
  mailboxes = [];
});
afterEach(async () => {
  for (const mailbox of mailboxes) await mailbox.stop();
  await stack.stop();
  await database.drop();
});

/** Signals that arrive when the test says so. */
class Signals implements FrameSignals {
  readonly told: string[] = [];
  #polls: (() => void)[] = [];

  done(ids: Iterable<string>): void {
    this.told.push(...ids);
  }

  onDone(): () => void {
    return () => {};
  }

  onLookAtEverything(fn: () => void): () => void {
    this.#polls.push(fn);
    return () => {};
  }

  poll(): void {
    for (const fn of this.#polls) fn();
  }
}

interface Box {
  readonly id: string;
  readonly mailbox: Mailbox;
  readonly signals: Signals;
  readonly frames: StreamFrameRow[];
}

const SECRET = "a shared secret of at least 32 bytes";

const open = async (olderReplicas = () => false): Promise<Box> => {
  const [id, signals] = [systemRandom.uuid(), new Signals()];
  const sealed = new SealedFrames({ box: new SecretBox({ secrets: [SECRET], ...stack.base }), olderReplicas });
  const mailbox = new Mailbox(stack.base, { db: stack.database.db, signals, instanceId: id, sealed });
  const frames: StreamFrameRow[] = [];
  mailbox.onFrame((frame) => frames.push(frame));
  await mailbox.start();
  mailboxes.push(mailbox);
  return { id, mailbox, signals, frames };
};

const talk = (from: Box, to: Box): Conversation =>
  new Conversation(stack.base.clock, from.mailbox, to.id, systemRandom.uuid());

test("frames arrive whole and in order without a single signal, and are gone afterwards", async () => {
  const [a, b] = [await open(), await open()];
  const [one, other] = [talk(a, b), talk(a, b)];
  for (let n = 0; n < 500; n += 1) {
    one.say("data", Buffer.from([n % 256]));
    if (n % 50 === 0) other.say("resize", { cols: n + 1, rows: 1 });
  }
  one.say("end");
  await eventually(() => {
    b.signals.poll();
    return b.frames.at(-1)?.kind === "end";
  });
  const of = (c: Conversation) => b.frames.filter((f) => f.streamId === c.thread.streamId);
  const bytes = Buffer.concat(of(one).map((f) => f.body));
  expect(bytes).toEqual(Buffer.from(Array.from({ length: 500 }, (_, n) => n % 256)));
  for (const frames of [of(one), of(other)]) expect(frames.map((f) => f.seq)).toEqual(frames.map((_, i) => i));
  // Pieces that waited for a statement went together.
  expect(of(one).length).toBeLessThan(50);
  expect(new Set(a.signals.told)).toEqual(new Set([b.id]));
  expect(await database.query("select 1 from stream_frames")).toEqual([]);
});

test("the database shows nothing of what a frame says, unless replicas of the release before are there to read it", async () => {
  let older = true;
  const [a, b] = [await open(() => older), await open()];
  const conversation = talk(a, b);
  const typed = Buffer.from("a password that somebody types");
  const lying = async (count: number) => {
    const stored = "select kind, encode(body, 'escape') as body from stream_frames order by id";
    await eventually(async () => (await database.query(stored)).length === count);
    return database.query(stored);
  };
  conversation.say("data", typed);
  expect(await lying(1)).toEqual([{ kind: "data", body: typed.toString() }]);
  older = false;
  conversation.say("data", typed);
  const [, sealed] = await lying(2);
  expect(sealed?.kind).toBe("sealed.data");
  expect(sealed?.body).not.toContain("password");
  b.signals.poll();
  await eventually(() => b.frames.length === 2);
  expect(b.frames.map((f) => [f.seq, f.kind, f.body])).toEqual([
    [0, "data", typed],
    [1, "data", typed],
  ]);
});

test("a frame that was changed, or put into another stream, counts as lost", async () => {
  const [a, b] = [await open(), await open()];
  const [one, other] = [talk(a, b), talk(a, b)];
  for (const n of [0, 1, 2]) {
    one.say("resize", { n });
    await eventually(() => one.thread.nextSeq === n + 1);
  }
  await eventually(async () => (await database.query("select 1 from stream_frames")).length === 3);
  await database.query("update stream_frames set body = set_byte(body, length(body) - 1, 0) || 'x' where seq = 0");
  await database.query("update stream_frames set stream_id = $1 where seq = 1", [other.thread.streamId]);
  b.signals.poll();
  await eventually(() => b.frames.length === 1);
  expect(b.frames.map((f) => [f.seq, f.kind, f.body.toString()])).toEqual([[2, "resize", '{"n":2}']]);
});

test("a statement that fails is repeated; nothing is lost and the order holds", async () => {
  const [a, b] = [await open(), await open()];
  const conversation = talk(a, b);
  await database.query("alter table stream_frames rename to away");
  conversation.say("data", Buffer.from("one "));
  await eventually(() => conversation.thread.nextSeq === 1);
  conversation.say("data", Buffer.from("two"));
  await database.query("alter table away rename to stream_frames");
  await eventually(() => {
    b.signals.poll();
    return Buffer.concat(b.frames.map((f) => f.body)).toString() === "one two";
  });
});

test("what has not been read can be taken back, what has been read cannot", async () => {
  const [a, b] = [await open(), await open()];
  const [early, late] = [talk(a, b), talk(a, b)];
  early.say("call");
  await eventually(async () => (await database.query("select 1 from stream_frames")).length === 1);
  b.signals.poll();
  await eventually(() => b.frames.length === 1);
  late.say("call");
  expect([await a.mailbox.withdraw(early.thread), await a.mailbox.withdraw(late.thread)]).toEqual([false, true]);
  expect(await database.query("select 1 from stream_frames")).toEqual([]);
});

test("a number that came before is left out, one too far ahead means a loss", async () => {
  const [a, b] = [await open(), await open()];
  const conversation = talk(a, b);
  const frame = (seq: number): StreamFrameRow => ({
    toReplica: a.id,
    fromReplica: b.id,
    streamId: conversation.thread.streamId,
    seq,
    kind: "data",
    body: Buffer.alloc(0),
  });
  const heard = [0, 1, 1, 0, 2, 4].map((seq) => conversation.hear(frame(seq)));
  expect(heard).toEqual(["next", "next", "repeated", "repeated", "next", "gap"]);
});
