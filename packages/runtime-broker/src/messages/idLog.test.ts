import { appendFile, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { type Clock, systemClock } from "@rootstock/service";
import { IdLog } from "./idLog.ts";

let directory = "";
let now = 1_000_000;
const clock: Clock = { ...systemClock, now: () => now };
const openLog = (maxIds = 100) =>
  new IdLog(clock, { file: join(directory, "ids"), maxIds, maxAgeMs: 60_000, durable: true });

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "id-log-"));
  now = 1_000_000;
});
afterEach(() => rm(directory, { recursive: true }));

test("an id is remembered by the next process", async () => {
  const first = openLog();
  expect(await first.has("m1")).toBe(false);
  await first.add("m1");
  await first.close();
  expect(await openLog().has("m1")).toBe(true);
});

test("a line cut short by a crash spoils no other line", async () => {
  const first = openLog();
  await first.add("m1");
  await first.close();
  await appendFile(join(directory, "ids"), "1000000 m");
  const second = openLog();
  await second.add("m3");
  await second.close();
  const third = openLog();
  expect([await third.has("m1"), await third.has("m3")]).toEqual([true, true]);
});

test("ids are bounded by count, in memory and on disk", async () => {
  const log = openLog(10);
  for (let i = 0; i < 55; i++) await log.add(`m${i}`);
  await log.close();
  expect([await log.has("m44"), await log.has("m45")]).toEqual([false, true]);
  const lines = (await readFile(join(directory, "ids"), "utf8")).split("\n").filter((line) => line !== "");
  expect(lines.length).toBeLessThanOrEqual(20);
});

test("ids are bounded by age", async () => {
  const log = openLog();
  await log.add("old");
  now += 60_001;
  expect(await log.has("old")).toBe(false);
  await log.close();
});
