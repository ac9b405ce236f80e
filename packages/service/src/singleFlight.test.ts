import { expect, test } from "@jest/globals";
import { Breather, type Clock, SingleFlight, systemClock } from "./index.ts";

test("with a breather the second run follows at once, and every later one of a row waits", async () => {
  const done: string[] = [];
  const clock: Clock = { ...systemClock, sleep: async () => void done.push("rest") };
  const flight = new SingleFlight(
    async () => {
      done.push("run");
      if (done.filter((d) => d === "run").length < 4) void flight.poke();
    },
    () => {},
    new Breather(clock, 10),
  );
  await flight.poke();
  expect(done).toEqual(["run", "run", "rest", "run", "rest", "run"]);
  done.length = 0;
  await flight.poke();
  expect(done.slice(0, 3)).toEqual(["run", "run", "rest"]);
});

test("who pokes during a run is answered by a run that began afterwards; a run that fails does not end the row", async () => {
  let begun = 0;
  const failures: unknown[] = [];
  let goOn = () => {};
  const flight = new SingleFlight(
    async () => {
      begun += 1;
      if (begun > 1) return;
      await new Promise<void>((resolve) => {
        goOn = resolve;
      });
      throw new Error("the first");
    },
    (err) => failures.push(err),
  );
  const first = flight.poke();
  await Promise.resolve();
  expect(begun).toBe(1);
  const second = flight.poke();
  goOn();
  await Promise.all([first, second]);
  expect([begun, failures.length]).toEqual([2, 1]);
});
