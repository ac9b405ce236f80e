import { expect, test } from "@jest/globals";
import { type Clock, systemClock } from "@rootstock/service";
import { Turns } from "./turns.ts";

/** A clock that stands still until it is told to go on. */
const still = () => {
  let now = 0;
  const timers = new Set<{ at: number; fn: () => void }>();
  const clock: Clock = {
    ...systemClock,
    after: (ms, fn) => {
      const timer = { at: now + ms, fn };
      timers.add(timer);
      return { cancel: () => timers.delete(timer) };
    },
  };
  const pass = (ms: number): void => {
    now += ms;
    for (const timer of timers) {
      if (timer.at > now) continue;
      timers.delete(timer);
      timer.fn();
    }
  };
  return { clock, timers, pass };
};
const patience = (signal = new AbortController().signal) => ({ waitMs: 5_000, gone: () => signal });

/** Places, and who got one or gave up, in order. */
const places = (clock: Clock, n: number) => {
  const turns = new Turns(clock, n);
  const heard: string[] = [];
  const ask = (whom: string, signal?: AbortSignal): Promise<void> =>
    turns.take(whom, patience(signal)).then((placed) => void heard.push(placed ? whom : `${whom} gave up`));
  return { turns, heard, ask };
};

test("who has asked ten thousand times comes up as often as who has asked once", async () => {
  const { clock } = still();
  const { turns, heard, ask } = places(clock, 2);
  const asked = Array.from({ length: 10_000 }, () => [ask("ann"), ask("bob")]).flat();
  const others = [ask("cat"), ask("dan"), ask("cat")];
  for (let i = 0; i < 5_000; i += 1) {
    turns.leave("ann");
    turns.leave("bob");
    // Whoever comes up gives the place back at once.
    if (i < 2) turns.leave("cat");
    if (i === 0) turns.leave("dan");
  }
  await Promise.all(others);
  await Promise.race(asked);
  expect(heard.slice(0, 7)).toEqual(["ann", "bob", "cat", "dan", "ann", "bob", "cat"]);
});

test("nobody is refused before the time is over, then all are, and what they left is free", async () => {
  const { clock, timers, pass } = still();
  const { turns, heard, ask } = places(clock, 1);
  const asked = Array.from({ length: 20_001 }, (_, i) => ask(`p${i % 4}`));
  await asked[0];
  pass(4_999);
  turns.leave("p0");
  await asked[1];
  expect(heard).toEqual(["p0", "p1"]);
  expect(timers.size).toBe(19_999);
  pass(1);
  await Promise.all(asked);
  expect(heard.filter((each) => each.endsWith("gave up"))).toHaveLength(19_999);
  expect(timers.size).toBe(0);
  turns.leave("p1");
  await ask("p2");
  expect(heard.at(-1)).toBe("p2");
});

test("who goes away gives up at once, and keeps nobody from a turn", async () => {
  const { clock, timers } = still();
  const { turns, heard, ask } = places(clock, 1);
  await ask("ann");
  const going = new AbortController();
  const gone = [ask("bob", going.signal), ask("ann", going.signal)];
  const stayed = ask("cat");
  going.abort();
  await Promise.all(gone);
  expect(timers.size).toBe(1);
  turns.leave("ann");
  await stayed;
  await ask("dan", AbortSignal.abort());
  expect(heard).toEqual(["ann", "bob gave up", "ann gave up", "cat", "dan gave up"]);
  turns.leave("cat");
  await ask("ann");
  expect(heard.at(-1)).toBe("ann");
});
