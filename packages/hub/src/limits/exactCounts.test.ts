import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { systemClock } from "@rootstock/service";
import { countAllMessages, type Db } from "@rootstock/store";
import { createTestStore, type TestStore } from "@rootstock/testkit";
import { ExactCounts, type ExactCountsOptions, type WhoAsks } from "./exactCounts.ts";

let store: TestStore;
beforeAll(async () => {
  store = await createTestStore();
});
afterAll(() => store.drop());

const idOf = (n: number) => `00000000-0000-4000-8000-00000000000${n}`;
const person = (n: number, signal = new AbortController().signal): WhoAsks => ({
  principal: { kind: "user", id: idOf(n), email: `p${n}@example.org`, displayName: "", role: "member" },
  signal: () => signal,
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
  const filter = { userId: idOf(1), view: "inbox" } as const;
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

test("few are made at once, one for each principal, and principals come up in turns", async () => {
  const { begun, count, goOn } = held();
  const two = counts({ mostAtOnce: 2 });
  const made = [two.of(person(1), count("1a"))];
  // Each begins on a connection of its own: of two at once either may be first.
  await until(() => begun.length === 1);
  made.push(
    two.of(person(1), count("1b")),
    two.of(person(1), count("1c")),
    two.of(person(2), count("2a")),
    two.of(person(2), count("2b")),
    two.of(person(3), count("3")),
  );
  const order = ["1a", "2a", "3", "1b", "2b", "1c"];
  for (const [done, name] of order.entries()) {
    await until(() => begun.length > done);
    expect(begun[done]).toBe(name);
    // Two are under way: the first of them ends.
    if (done > 0) await goOn();
  }
  await goOn();
  await Promise.all(made);
});

test("thousands of calls of one wait, and nobody else waits for them; none is refused before its time", async () => {
  const { begun, count, goOn } = held();
  const one = counts({ mostAtOnce: 1 });
  const going = Array.from({ length: 3_000 }, () => new AbortController());
  const refused: unknown[] = [];
  const many = going.map(({ signal }) =>
    one.of(person(1, signal), count("many")).catch((err: unknown) => void refused.push(err)),
  );
  const made = [one.of(person(2), count("other"))];
  for (const [i, name] of ["many", "other", "many"].entries()) {
    await until(() => begun.length > i);
    expect([begun[i], refused]).toEqual([name, []]);
    if (i < 2) await goOn();
  }
  // Whoever has gone away waits no more: what is being counted for them ends, and somebody else comes next.
  for (const each of going) each.abort();
  made.push(one.of(person(2), count("last")));
  await goOn();
  await until(() => begun.length > 3);
  await goOn();
  await Promise.all([...made, ...many]);
  expect(begun).toEqual(["many", "other", "many", "last"]);
  expect(refused).toHaveLength(2_998);
  expect(refused[0]).toMatchObject({ status: 422, details: { field: "totalCount" } });
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
