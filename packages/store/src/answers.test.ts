import { expect, test } from "@jest/globals";
import type { Clock } from "@rootstock/service";
import { eventually, testLog } from "@rootstock/testkit";
import pg from "pg";
import { Answers, DatabaseSilentError } from "./answers.ts";

/** Time that passes when the test says so. */
const manualClock = () => {
  let now = 0;
  let due: { readonly at: number; readonly fn: () => void }[] = [];
  const after = (ms: number, fn: () => void) => {
    const timer = { at: now + ms, fn };
    due.push(timer);
    const cancel = () => {
      due = due.filter((t) => t !== timer);
    };
    return { cancel };
  };
  const clock: Clock = {
    now: () => now,
    elapsed: () => now,
    after,
    sleep: (ms, signal) =>
      new Promise((resolve) => {
        after(ms, resolve);
        signal?.addEventListener("abort", () => resolve(), { once: true });
      }),
  };
  const ring = (): void => {
    for (const timer of due.filter((t) => t.at <= now)) {
      due = due.filter((t) => t !== timer);
      timer.fn();
    }
  };
  const pass = (ms: number): void => {
    for (const until = now + ms; now < until; ring()) now += 100;
  };
  /** As while a process is stopped: no timer goes off before it is over. */
  const jump = (ms: number): void => {
    now += ms;
    ring();
  };
  return { clock, pass, jump };
};

const answersWith = (probe: () => Promise<void>) => {
  const { clock, pass, jump } = manualClock();
  const answers = new Answers({ clock, log: testLog(), probe, silentAfterMs: 10_000, statementLimitMs: 20_000 });
  /** A statement that the test answers, and that fails when its connection is ended. */
  const ask = () => {
    let answer: (text: string) => void = () => {};
    let fail: (err: Error) => void = () => {};
    const result = answers.watch(
      () =>
        new Promise<string>((resolve, reject) => {
          answer = resolve;
          fail = reject;
        }),
      () => fail(new Error("Connection terminated unexpectedly")),
    );
    return { result, answer: (text: string) => answer(text), fail: (err: Error) => fail(err) };
  };
  return { answers, ask, pass, jump };
};

test("no answer at all: what is out is given up, nothing more is sent, and a probe ends it", async () => {
  let living = false;
  const { answers, ask, pass } = answersWith(async () => {
    if (!living) throw new Error("no answer");
  });
  const [first, second] = [ask(), ask()];
  pass(5_000);
  const later = ask();
  expect([answers.silent, answers.silentForMs()]).toEqual([false, 5_000]);
  pass(6_000);
  expect(answers.silent).toBe(true);
  for (const { result } of [first, second, later]) await expect(result).rejects.toThrow("Connection terminated");
  await expect(ask().result).rejects.toThrow(DatabaseSilentError);
  expect(() => answers.refuseWhenSilent()).toThrow(DatabaseSilentError);

  // The probes fail for as long as it does not live.
  for (let i = 0; i < 3; i += 1) {
    pass(1_000);
    await Promise.resolve();
  }
  expect(answers.silent).toBe(true);
  living = true;
  await eventually(() => {
    pass(1_000);
    return !answers.silent;
  });
  const again = ask();
  again.answer("here");
  expect(await again.result).toBe("here");
  await answers.stop();
});

test("one slow statement is no silence while others are answered, be it with an error; it is given up by itself", async () => {
  const { answers, ask, pass } = answersWith(async () => {});
  const slow = ask();
  for (let i = 0; i < 9; i += 1) {
    pass(2_000);
    const quick = ask();
    if (i % 2) quick.answer("done");
    else quick.fail(new pg.DatabaseError("duplicate key", 0, "error"));
    await quick.result.catch(() => {});
  }
  expect(answers.silent).toBe(false);
  pass(3_000);
  await expect(slow.result).rejects.toThrow("Connection terminated");
  expect(answers.silent).toBe(false);
  await answers.stop();
});

test("a process that was stopped itself does not take that for the database's silence", async () => {
  const { answers, ask, pass, jump } = answersWith(async () => {});
  const waiting = ask();
  pass(1_000);
  jump(30_000);
  expect(answers.silent).toBe(false);
  waiting.answer("it had been there for long");
  expect(await waiting.result).toBe("it had been there for long");
  const hanging = ask();
  pass(12_000);
  expect(answers.silent).toBe(true);
  await expect(hanging.result).rejects.toThrow("Connection terminated");
  await answers.stop();
});

test("a database that refuses is not silent, and one that is not asked neither", async () => {
  const { answers, ask, pass } = answersWith(async () => {});
  const refused = ask();
  refused.fail(new Error("connect ECONNREFUSED"));
  await expect(refused.result).rejects.toThrow("ECONNREFUSED");
  pass(60_000);
  expect([answers.silent, answers.silentForMs()]).toEqual([false, 0]);
  await answers.stop();
});
