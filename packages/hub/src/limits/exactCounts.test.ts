import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { systemClock } from "@rootstock/service";
import { countAllMessages, type Db } from "@rootstock/store";
import { createTestStore, type TestStore } from "@rootstock/testkit";
import type { UserPrincipal } from "../auth/index.ts";
import { ExactCounts, type ExactCountsOptions } from "./exactCounts.ts";

let store: TestStore;
beforeAll(async () => {
  store = await createTestStore();
});
afterAll(() => store.drop());

const person = (n: number): UserPrincipal => ({
  kind: "user",
  id: `00000000-0000-4000-8000-00000000000${n}`,
  email: `p${n}@example.org`,
  displayName: "",
  role: "member",
});
const counts = (over: Partial<ExactCountsOptions> = {}) =>
  new ExactCounts({ db: store.db, clock: systemClock, waitMs: 20_000, ...over });

/** Counts that are under way until they are let go on. */
const held = () => {
  const begun: string[] = [];
  const letGo: (() => void)[] = [];
  const count = (name: string) => () =>
    new Promise<number>((resolve) => {
      begun.push(name);
      letGo.push(() => resolve(begun.length));
    });
  const goOn = async (): Promise<void> => letGo.shift()?.();
  return { begun, count, goOn };
};
const until = async (fact: () => boolean): Promise<void> => {
  while (!fact()) await store.query("select 1");
};

test("a list that cannot be counted in time is refused as it is, no failure of the hub", async () => {
  const blocked = store.another();
  let freed: () => void = () => {};
  let isHeld: () => void = () => {};
  const lockIsHeld = new Promise<void>((resolve) => {
    isHeld = resolve;
  });
  const locking = blocked.db.transaction().execute(async (tx) => {
    await tx.schema.alterTable("messages").addColumn("never_kept", "text").execute();
    isHeld();
    await new Promise<void>((resolve) => {
      freed = resolve;
    });
    throw new Error("rolled back");
  });
  await lockIsHeld;
  const filter = { userId: person(1).id, view: "inbox" } as const;
  const count = (db: Db) => countAllMessages(db, filter);
  const one = counts({ countMs: 50 });
  await expect(one.of(person(1), count)).rejects.toMatchObject({
    status: 422,
    code: "unprocessable",
    details: { field: "totalCount" },
  });
  freed();
  await expect(locking).rejects.toThrow("rolled back");
  // Neither its place nor its connection is lost, and other statements have their usual time again.
  expect(await one.of(person(1), count)).toBe(0);
});

test("few are made at once, one for each principal; whoever waits longest comes next, and nobody's many calls keep others out", async () => {
  const { begun, count, goOn } = held();
  const two = counts({ mostAtOnce: 2 });
  const made = [
    two.of(person(1), count("1a")),
    two.of(person(1), count("1b")),
    two.of(person(1), count("1c")),
    two.of(person(2), count("2")),
    two.of(person(3), count("3")),
  ];
  await until(() => begun.length === 2);
  expect(begun).toEqual(["1a", "2"]);
  await goOn();
  await until(() => begun.length === 3);
  expect(begun[2]).toBe("1b");
  await goOn();
  await until(() => begun.length === 4);
  expect(begun[3]).toBe("3");
  await goOn();
  await until(() => begun.length === 5);
  expect(begun[4]).toBe("1c");
  await goOn();
  await goOn();
  await Promise.all(made);
});

test("whose turn does not come in time is told so, and its place is free for the next", async () => {
  const { begun, count, goOn } = held();
  const one = counts({ mostAtOnce: 1, waitMs: 20 });
  const first = one.of(person(1), count("first"));
  await expect(one.of(person(2), count("late"))).rejects.toMatchObject({
    status: 422,
    details: { field: "totalCount" },
  });
  await until(() => begun.length === 1);
  await goOn();
  await first;
  const next = one.of(person(2), count("next"));
  await until(() => begun.length === 2);
  await goOn();
  await next;
  expect(begun).toEqual(["first", "next"]);
});

test("no more wait than are bounded, each with the page that it belongs to: the next is told so at once, and others are not kept out", async () => {
  const { begun, count, goOn } = held();
  const one = counts({ mostAtOnce: 1, mostWaiting: 4, mostWaitingEach: 2 });
  const ask = (n: number) => one.of(person(n), count(String(n)));
  const made = [ask(1), ask(1), ask(1)];
  await expect(ask(1)).rejects.toMatchObject({ status: 422, details: { field: "totalCount" } });
  made.push(ask(2), ask(2));
  await expect(ask(3)).rejects.toMatchObject({ status: 422 });
  for (let n = 1; n <= made.length; n += 1) {
    await until(() => begun.length === n);
    await goOn();
  }
  await Promise.all(made);
  const next = ask(1);
  await until(() => begun.length === made.length + 1);
  await goOn();
  await next;
});
