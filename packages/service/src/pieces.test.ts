import { expect, test } from "@jest/globals";
import { Pieces } from "./pieces.ts";

test("what comes in any sizes is had in order, in pieces of one size", () => {
  const pieces = new Pieces(4);
  for (const text of ["a", "bc", "", "defghijkl", "m"]) pieces.push(Buffer.from(text));
  expect(pieces.bytes).toBe(13);
  expect([pieces.shift(), pieces.shift(), pieces.shift()].map(String)).toEqual(["abcd", "efgh", "ijkl"]);
  expect(pieces.bytes).toBe(1);
  expect(String(pieces.shift())).toBe("m");
  expect([pieces.shift(), pieces.bytes]).toEqual([undefined, 0]);
});

test("what was taken is not written to again, nor is what was given read again", () => {
  const pieces = new Pieces(4);
  const given = Buffer.from("ab");
  pieces.push(given);
  given.fill("x");
  const taken = pieces.shift();
  pieces.push(Buffer.from("cd"));
  expect(String(taken)).toBe("ab");
  pieces.clear();
  expect([pieces.shift(), pieces.bytes]).toEqual([undefined, 0]);
});
