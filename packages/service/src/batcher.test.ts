import { expect, test } from "@jest/globals";
import { Batcher } from "./batcher.ts";
import { type Clock, systemClock } from "./index.ts";

/** A clock whose timers go off when the test says so. */
const manualClock = () => {
  const due: (() => void)[] = [];
  const clock: Clock = {
    ...systemClock,
    after: (_, fn) => {
      due.push(fn);
      return { cancel: () => void due.splice(due.indexOf(fn), due.includes(fn) ? 1 : 0) };
    },
  };
  return { clock, ring: () => due.splice(0).forEach((fn) => void fn()) };
};

test("what arrives within the window goes together, each with its own answer", async () => {
  const { clock, ring } = manualClock();
  const seen: (readonly number[])[] = [];
  const batcher = new Batcher<number, number>(clock, { windowMs: 3, maxItems: 10, concurrency: 1 }, async (items) => {
    seen.push(items);
    return items.map((i) => i * 2);
  });
  const answers = [1, 2, 3].map((i) => batcher.add(i));
  expect(seen).toEqual([]);
  ring();
  expect(await Promise.all(answers)).toEqual([2, 4, 6]);
  expect(seen).toEqual([[1, 2, 3]]);
});

test("a full batch does not wait, and no more run at once than allowed", async () => {
  const { clock } = manualClock();
  const seen: number[] = [];
  const finish: (() => void)[] = [];
  const batcher = new Batcher<number, number>(clock, { windowMs: 3, maxItems: 2, concurrency: 1 }, async (items) => {
    seen.push(items.length);
    await new Promise<void>((resolve) => finish.push(resolve));
    return items;
  });
  const answers = [1, 2, 3, 4, 5].map((i) => batcher.add(i));
  expect(seen).toEqual([2]);
  let idle = false;
  const waiting = batcher.idle().then(() => {
    idle = true;
  });
  for (const expected of [[2], [2, 2], [2, 2, 1]]) {
    expect(seen).toEqual(expected);
    expect(idle).toBe(false);
    finish.shift()?.();
    await answers[seen.length * 2 - 2];
    await Promise.resolve();
  }
  expect(await Promise.all(answers)).toEqual([1, 2, 3, 4, 5]);
  await waiting;
});

test("a batch that fails fails for each of its callers, and the next goes on", async () => {
  const { clock, ring } = manualClock();
  let broken = true;
  const batcher = new Batcher<number, number>(clock, { windowMs: 3, maxItems: 10, concurrency: 1 }, async (items) => {
    if (broken) throw new Error("database down");
    return items;
  });
  const failing = [batcher.add(1), batcher.add(2)];
  ring();
  expect((await Promise.allSettled(failing)).map((o) => o.status)).toEqual(["rejected", "rejected"]);
  broken = false;
  const fine = batcher.add(3);
  ring();
  expect(await fine).toBe(3);
});
