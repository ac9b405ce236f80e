import { expect, test } from "@jest/globals";
import { Pacer } from "./pacer.ts";

const paced = () => {
  const sent: Buffer[] = [];
  const pacer = new Pacer({ pieceBytes: 10, aheadBytes: 4, transmit: (piece) => sent.push(Buffer.from(piece)) });
  const texts = () => sent.map(String);
  return { pacer, texts };
};

test("what comes while little is on its way goes at once, in pieces", () => {
  const { pacer, texts } = paced();
  pacer.push(Buffer.from("ab"));
  pacer.push(Buffer.from("c"));
  expect(texts()).toEqual(["ab", "c"]);
  pacer.done(3);
  pacer.push(Buffer.from("0123456789xyz"));
  expect(texts()).toEqual(["ab", "c", "0123456789"]);
  expect(pacer.heldBytes).toBe(13);
});

test("what waits is put together, keeps its order and is overtaken by nothing", () => {
  const { pacer, texts } = paced();
  for (const letter of "abcdefghijklmnopqrstuvwxyz") pacer.push(Buffer.from(letter));
  expect(texts()).toEqual(["a", "b", "c", "d"]);
  expect(pacer.heldBytes).toBe(26);
  pacer.done(1);
  expect(texts().slice(4)).toEqual(["efghijklmn"]);
  pacer.push(Buffer.from("!"));
  pacer.done(13);
  pacer.done(10);
  expect(texts().slice(5)).toEqual(["opqrstuvwx", "yz!"]);
});

test("a flush sends all, whatever is on its way", () => {
  const { pacer, texts } = paced();
  pacer.push(Buffer.from("0123456789"));
  pacer.push(Buffer.from("abcdefghijklmno"));
  pacer.flush();
  expect(texts()).toEqual(["0123456789", "abcdefghij", "klmno"]);
  pacer.done(25);
  expect(pacer.heldBytes).toBe(0);
});

test("a million single bytes cost a few pieces", () => {
  const { pacer, texts } = paced();
  const wide = new Pacer({ pieceBytes: 32_768, aheadBytes: 1, transmit: () => {} });
  const one = Buffer.from("x");
  for (let n = 0; n < 1_000_000; n += 1) wide.push(one);
  expect(wide.heldBytes).toBe(1_000_000);
  pacer.push(one);
  expect(texts()).toEqual(["x"]);
});

test("what waits can be dropped; what is on its way is not, and what comes later follows it", () => {
  const { pacer, texts } = paced();
  for (const letter of "abcdefgh") pacer.push(Buffer.from(letter));
  pacer.drop();
  expect(pacer.heldBytes).toBe(4);
  pacer.done(4);
  pacer.push(Buffer.from("!"));
  expect(texts()).toEqual(["a", "b", "c", "d", "!"]);
});
