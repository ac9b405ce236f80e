import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { Probe } from "@rootstock/service";
import { testBase } from "../../testing/setup.ts";
import { FollowedFile } from "./followedFile.ts";
import { OutputLog } from "./outputLog.ts";

let directory: string;
let path: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "log-"));
  path = join(directory, "agent.log");
});
afterEach(() => rm(directory, { recursive: true, force: true }));

/** A reader, and everything that it has had. */
const following = (tail: number, after?: string) => {
  const grown = new Probe<string>();
  const state = { text: "" };
  const file = FollowedFile.open(testBase(), path, {
    tail,
    ...(after !== undefined && { after: Buffer.from(after) }),
    onData: (data) => {
      state.text += data.toString();
      grown.emit(state.text);
    },
  });
  const shows = async (text: string): Promise<void> => {
    if (!state.text.includes(text)) await grown.next((all) => all.includes(text));
  };
  return { file, state, shows };
};

test("begins with the last lines, as text, and goes on; what has no end yet waits for it", async () => {
  await writeFile(path, "one\r\n\x1b[31mtwo\x1b[0m\r\nthree\nfou");
  const reader = following(2);
  await reader.shows("three");
  await writeFile(path, "r\n€", { flag: "a" });
  await reader.shows("four");
  await writeFile(path, "\n", { flag: "a" });
  await reader.shows("€");
  expect(reader.state.text).toBe("two\nthree\nfour\n€\n");
  reader.file.close();
  expect(await reader.file.ended).toMatchObject({ code: 0 });
});

test.each([
  ["no line", "", 3, ""],
  ["an empty line alone", "\n", 3, "\n"],
  ["fewer lines than asked for, the first of them empty", "\none\n", 3, "\none\n"],
  ["as many as asked for", "zero\n\none\n", 2, "\none\n"],
])("the last lines of a log with %s", async (_, text, tail, shown) => {
  await writeFile(path, `${text}open`);
  const reader = following(tail);
  await reader.shows(shown);
  await writeFile(path, " end\n", { flag: "a" });
  await reader.shows("open end\n");
  expect(reader.state.text).toBe(`${shown}open end\n`);
  reader.file.close();
});

test("a log that is not there yet is waited for, one that is removed has ended", async () => {
  const reader = following(10);
  await writeFile(path, "begun\n");
  await reader.shows("begun");
  await rm(path);
  expect(await reader.file.ended).toEqual({ code: 0, reason: "the log was removed" });
});

test("a log that is replaced when it is full is read on without a gap", async () => {
  const log = new OutputLog(path, 4_096);
  log.append(Buffer.from("begun\n"));
  const reader = following(1);
  await reader.shows("begun");
  const lines = ["begun"];
  for (let n = 0; n < 500; n += 1) {
    const line = `line ${n} ${"x".repeat(20)}`;
    lines.push(line);
    log.append(Buffer.from(`${line}\n`));
    // One replacement at a time: a reader that is two behind misses the one between.
    if (n % 40 === 39) await reader.shows(line);
  }
  await reader.shows("line 499 ");
  expect(reader.state.text.trimEnd().split("\n")).toEqual(lines);
  log.close();
  reader.file.close();
});

test("goes on after the last place where its reader has been, once it is replaced as well", async () => {
  const log = new OutputLog(path, 4_096);
  const line = (n: number) => `line ${n} ${"x".repeat(20)}\n`;
  for (let n = 0; n < 40; n += 1) log.append(Buffer.from(line(n)));
  log.append(Buffer.from("no end"));
  const near = following(0, `xxx\n${line(30)}`);
  await near.shows("line 39 ");
  expect(near.state.text).toBe(Array.from({ length: 9 }, (_, n) => line(31 + n)).join(""));
  log.append(Buffer.from("ing yet\n"));
  await near.shows("no ending yet\n");
  for (let n = 41; n < 100; n += 1) log.append(Buffer.from(line(n)));
  const far = following(0, line(39));
  await far.shows("line 99 ");
  expect(far.state.text).toBe(`no ending yet\n${Array.from({ length: 59 }, (_, n) => line(41 + n)).join("")}`);
  // A log that has just been replaced has its last lines in the one before.
  while ((await stat(path)).size > 0) log.append(Buffer.from(line(0)));
  const tailed = following(3);
  await tailed.shows(line(0));
  expect(tailed.state.text).toBe(line(0).repeat(3));
  log.close();
  for (const { file } of [near, far, tailed]) file.close();
});

test("where the same lines stand again, as far up as may be, none is left out", async () => {
  const same = "Thinking...\n".repeat(40);
  const between = Array.from({ length: 100_000 }, (_, n) => `step ${n}\n`).join("");
  await writeFile(path, `${same}${between}${same}last\n`);
  const reader = following(0, same);
  await reader.shows("last");
  expect(reader.state.text).toBe(`${between}${same}last\n`);
  reader.file.close();
});

test("a place that is not kept any more lies before all that is", async () => {
  const lines = Array.from({ length: 50_000 }, (_, n) => `line ${n} ${"x".repeat(20)}\n`);
  await writeFile(path, lines.join(""));
  const distant = following(0, lines[7]);
  await distant.shows("line 49999 ");
  expect(distant.state.text).toBe(lines.slice(8).join(""));
  const lost = following(0, "nobody has printed this\n");
  await lost.shows("line 49999 ");
  expect(lost.state.text).toBe(lines.join(""));
  for (const { file } of [distant, lost]) file.close();
});

test("a reader that waits is given nothing; a long line without an end comes in parts", async () => {
  await writeFile(path, "begun\n");
  const reader = following(1);
  await reader.shows("begun");
  reader.file.pause();
  await writeFile(path, `first\n${"y".repeat(300_000)}`, { flag: "a" });
  await reader.shows("first");
  const before = reader.state.text.length;
  expect(before).toBeLessThan(150_000);
  reader.file.resume();
  await reader.shows("y".repeat(200_000));
  reader.file.close();
  await reader.file.ended;
});
