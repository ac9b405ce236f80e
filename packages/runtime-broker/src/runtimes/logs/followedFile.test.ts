import { mkdtemp, rm, writeFile } from "node:fs/promises";
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
const following = (tail: number) => {
  const grown = new Probe<string>();
  const state = { text: "" };
  const file = FollowedFile.open(testBase(), path, {
    tail,
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
