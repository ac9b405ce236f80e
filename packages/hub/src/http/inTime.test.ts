import { expect, test } from "@jest/globals";
import { type Clock, systemClock } from "@rootstock/service";
import { inTime } from "./inTime.ts";

/** A clock whose timers go off when the test says so, and the one that is set now. */
const manualClock = () => {
  const due = new Set<() => void>();
  const clock: Clock = {
    ...systemClock,
    after: (_, fn) => {
      due.add(fn);
      return { cancel: () => void due.delete(fn) };
    },
  };
  const ring = () => {
    const fns = [...due];
    due.clear();
    for (const fn of fns) fn();
  };
  return { clock, ring, pending: () => due.size };
};

test("a call that has taken its time is ended only when the database does not answer", async () => {
  const { clock, ring, pending } = manualClock();
  let silentForMs = 0;
  let finish: (text: string) => void = () => {};
  const slow = inTime(
    clock,
    () => silentForMs,
    () => new Promise<string>((resolve) => (finish = resolve)),
  );
  ring();
  ring();
  finish("late, and done");
  expect(await slow).toBe("late, and done");
  expect(pending()).toBe(0);

  const late: string[] = [];
  const hanging = inTime(
    clock,
    () => silentForMs,
    () => new Promise<string>((resolve) => (finish = resolve)),
    (text) => late.push(text),
  );
  ring();
  silentForMs = 2_500;
  ring();
  await expect(hanging).rejects.toMatchObject({ code: "unavailable", details: { outcome: "unknown" } });
  expect(pending()).toBe(0);
  finish("for nobody");
  await new Promise(setImmediate);
  expect(late).toEqual(["for nobody"]);
});

test("a failure is the call's own", async () => {
  const { clock, pending } = manualClock();
  await expect(
    inTime(
      clock,
      () => 0,
      () => Promise.reject(new Error("no such agent")),
    ),
  ).rejects.toThrow("no such agent");
  expect(pending()).toBe(0);
});
