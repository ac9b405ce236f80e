import { expect, test } from "@jest/globals";
import { newsAfter } from "./logPlace.ts";

test.each([
  ["a place in the middle", "one\ntwo\nthree\n", "two\n", "three\n"],
  ["the last of several", "tick\ntick\ntock\n", "tick\n", "tock\n"],
  ["the end", "one\n", "one\n", ""],
  ["a log that began anew", "three\nfour\n", "one\ntwo\nthree\n", "four\n"],
  ["a log that began anew, and nothing since", "three\n", "two\nthree\n", ""],
  ["another log", "four\n", "one\ntwo\n", undefined],
  ["no log", "", "one\ntwo\n", undefined],
])("%s", (_, log, mark, news) => {
  expect(newsAfter(Buffer.from(log), Buffer.from(mark))?.toString()).toBe(news);
});
