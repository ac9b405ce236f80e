import { expect, test } from "@jest/globals";
import { DetachKeys } from "./detachKeys.ts";

const feed = (...pieces: string[]) => {
  const keys = new DetachKeys();
  return pieces.map((piece) => {
    const { typed, leaves } = keys.feed(Buffer.from(piece));
    return [typed.toString(), leaves];
  });
};

test("Ctrl-B D leaves, in one piece or two, and what came before it is typed", () => {
  expect(feed("abc\x02d")).toEqual([["abc", true]]);
  expect(feed("abc\x02", "d")).toEqual([
    ["abc", false],
    ["", true],
  ]);
});

test("other keys pass, after a Ctrl-B too, and Ctrl-B twice is one", () => {
  expect(feed("d\x02x", "gr\u00fc\u00df")).toEqual([
    ["d\x02x", false],
    ["gr\u00fc\u00df", false],
  ]);
  expect(feed("\x02\x02d")).toEqual([["\x02d", false]]);
});
