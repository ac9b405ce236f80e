import { expect, test } from "@jest/globals";
import { Turns } from "./turns.ts";

test("work of one key runs one after the other, also after a failure; other keys do not wait", async () => {
  const turns = new Turns();
  const log: string[] = [];
  const gate = Promise.withResolvers<void>();
  const first = turns.run("a", async () => {
    await gate.promise;
    log.push("first");
    throw new Error("no");
  });
  const second = turns.run("a", async () => {
    log.push("second");
    return 2;
  });
  expect(await turns.run("b", async () => log.length)).toBe(0);
  gate.resolve();
  await expect(first).rejects.toThrow("no");
  expect(await second).toBe(2);
  expect(log).toEqual(["first", "second"]);
});
