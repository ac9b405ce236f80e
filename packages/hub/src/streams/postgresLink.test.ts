import { afterEach, beforeEach, expect, test } from "@jest/globals";
import type { Uuid } from "@rootstock/protocol";
import type { StreamFrameRow } from "@rootstock/store";
import { testBase } from "@rootstock/testkit";
import type { StreamHandler } from "../control/index.ts";
import type { AgentStreamRequest } from "./agentStream.ts";
import type { Thread } from "./mailbox.ts";
import { PostgresLink } from "./postgresLink.ts";
import { Tending } from "./tending.ts";

/** The entry replica's side of streams through the database, with the owner's frames by hand. */

const base = testBase();
const ownerId = base.random.uuid();
const request: AgentStreamRequest = {
  streamType: "pty",
  runtimeBrokerId: base.random.uuid(),
  slug: "a1",
  projectId: base.random.uuid(),
  cols: 80,
  rows: 24,
  readonly: false,
};

/** What the viewer was told, in order. */
let told: string[];
let asked: PromiseWithResolvers<void>;
let ownerIs: PromiseWithResolvers<boolean>;
let streamId: Uuid;
let arrive: (frame: StreamFrameRow) => void;
let link: PostgresLink;

beforeEach(async () => {
  told = [];
  asked = Promise.withResolvers();
  ownerIs = Promise.withResolvers();
  link = new PostgresLink(base, {
    isOwner: () => {
      asked.resolve();
      return ownerIs.promise;
    },
    mailbox: {
      onFrame: (fn) => {
        arrive = fn;
        return () => {};
      },
      send: (thread: Thread) => {
        streamId = thread.streamId;
      },
      withdraw: async () => false,
    },
    tending: new Tending(base),
    registry: { get: () => undefined },
    serve: async () => ({ status: 500, body: undefined }),
  });
  await link.start();
});
afterEach(() => link.stop());

const handler: StreamHandler = {
  onData: (data) => told.push(data.toString()),
  onTaken: (bytes) => told.push(`taken ${bytes}`),
  onClose: ({ reason }) => told.push(reason),
};

const open = () => link.open({ instanceId: ownerId, internalUrl: null }, request, handler);

const say = (seq: number, kind: string, body = ""): void =>
  arrive({ toReplica: base.random.uuid(), fromReplica: ownerId, streamId, seq, kind, body: Buffer.from(body) });

test("a terminal that opens while the database is asked who the owner is, is the viewer's: none of its output comes before another's", async () => {
  const opening = open();
  await asked.promise;
  say(0, "opened");
  say(1, "data", "shown");
  ownerIs.resolve(false);
  expect(await opening).not.toBe("not_owner");
  expect(told).toEqual(["shown"]);
});

test.each([
  ["too late", () => ownerIs.resolve(false), 0],
  ["after a frame that was lost", () => say(1, "data", "shown"), 2],
])("of a terminal that opens %s the viewer hears nothing: it gets another", async (_, strike, next) => {
  const opening = open();
  await asked.promise;
  strike();
  ownerIs.resolve(false);
  expect(await opening).toBe("not_owner");
  say(next, "opened");
  say(next + 1, "data", "shown");
  say(next + 2, "end", JSON.stringify({ reason: "ended", code: 0 }));
  expect(told).toEqual([]);
});
