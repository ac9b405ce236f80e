import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { type LogPlace, movedOn, NOWHERE, newsAfter, pieceOf, placeOf, toBytes } from "./logPlace.ts";

/** Where a reader is who has had these texts one after the other. */
const after = (...texts: readonly string[]): LogPlace =>
  placeOf(toBytes(texts.reduce((place, text) => movedOn(place, pieceOf(Buffer.from(text))), NOWHERE)));
const news = (log: string, place: LogPlace) => newsAfter(Buffer.from(log), place)?.toString();
const asLines = (lines: readonly string[]) => lines.map((line) => `${line}\n`).join("");
/** What the release before made of what a reader has had. */
const older = (text: string): LogPlace => placeOf(Buffer.from(text).subarray(-384));

const THINKING = "Thinking...\n".repeat(40);
const WORK = Array.from({ length: 40 }, (_, n) => `step ${n} of the work\n`).join("");

describe.each([
  ["this release", after],
  ["the release before", older],
])("a place of %s", (_, place) => {
  test.each([
    ["in the middle", "one\ntwo\nthree\n", "two\n", "three\n"],
    ["before the same line", "tick\ntick\ntock\n", "tick\n", "tick\ntock\n"],
    ["at the end", "one\n", "one\n", ""],
    ["in a log that has lost what stood there", "three\nfour\n", "one\ntwo\nthree\n", undefined],
    ["in another log", "four\n", "one\ntwo\n", undefined],
    ["in no log", "", "one\ntwo\n", undefined],
  ])("%s", (_name, log, had, expected) => {
    expect(news(log, place(had))).toBe(expected);
  });
});

test.each([
  ["the same block again", THINKING, `result: 42\n${THINKING}`],
  ["behind the second of three", `${THINKING}result: 42\n${THINKING}`, `result: 43\n${THINKING}`],
  ["in the middle of a block", `${THINKING}result: 42\n${THINKING.slice(0, 120)}`, THINKING.slice(120)],
  ["one line for ever", THINKING, THINKING],
  ["blocks that differ only far back", `${WORK}one\n${WORK}${THINKING}`, `two\n${WORK}${THINKING}`],
])("whoever has had the log from its beginning gets what follows, once: %s", (_, had, rest) => {
  expect(news(had + rest, after(had))).toBe(rest);
});

test("the same lines before what a reader has had come again, and nothing is left out", () => {
  const log = `${THINKING}result: 42\n${THINKING}result: 43\n`;
  expect(news(log, after(THINKING.slice(0, 360)))).toBe(log.slice(360));
  expect(news(log, older(THINKING))).toBe(log.slice(384));
});

test("a log that has lost its beginning: the same lines elsewhere in it are told apart by what stands before them", () => {
  const log = `${WORK}one\n${THINKING}${WORK}two\n${THINKING}`;
  const place = after(...log.split(/(?<=\n)/));
  const more = `three\n${THINKING}`;
  for (const lost of [1, 100]) expect(news(log.slice(lost) + more, place)).toBe(more);
  // So little stands before them that it is not told apart.
  for (const lost of [300, 1_500, 2_000]) expect(news(log.slice(lost) + more, place)?.endsWith(more)).toBe(true);
});

/** A log of few different lines, in blocks that repeat them. */
const line = fc.constantFrom("a", "Thinking...", "result: 42", "");
const block = fc.tuple(fc.array(line, { minLength: 1, maxLength: 4 }), fc.integer({ min: 1, max: 40 }));
const repetitive = fc
  .array(block, { minLength: 1, maxLength: 12 })
  .map((blocks) => blocks.flatMap(([some, times]) => Array.from({ length: times }, () => some).flat()));

test.each([
  ["from its beginning", () => 0, 0],
  ["from any line", (n: number, lines: number) => n % lines, 0.3],
])(
  "logs of few different lines, followed %s and cut off again and again: no line is left out",
  (_, begin, mostAgain) => {
    const seen = { resumed: 0, again: 0 };
    const whole = fc.property(repetitive, fc.nat(), fc.array(fc.nat(), { maxLength: 5 }), (lines, start, cuts) => {
      let at = begin(start, lines.length);
      let place = NOWHERE;
      for (const cut of cuts) {
        const had = lines.slice(at, at + 1 + (cut % (lines.length - at)));
        at += had.length;
        place = movedOn(place, pieceOf(Buffer.from(asLines(had))));
        const rest = asLines(lines.slice(at));
        const told = news(asLines(lines), placeOf(toBytes(place)));
        expect(told?.endsWith(rest)).toBe(true);
        seen.resumed += 1;
        if (told === rest && at < lines.length) continue;
        if (told !== rest) seen.again += 1;
        return;
      }
    });
    fc.assert(whole, { numRuns: 500, seed: 4 });
    expect(seen.again).toBeLessThanOrEqual(mostAgain * seen.resumed);
  },
);

test("a place fits in an id, however long its reader has followed the log", () => {
  const piece = pieceOf(Buffer.from(WORK));
  let place = NOWHERE;
  for (let n = 0; n < 20_000; n += 1) place = movedOn(place, piece);
  expect(toBytes(place).byteLength).toBeLessThanOrEqual(384);
  expect(place.endings[0]?.bytes).toBeGreaterThan(8_388_608);
  expect(placeOf(toBytes(place))).toEqual(place);
});
