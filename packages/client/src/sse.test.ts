import { expect, test } from "@jest/globals";
import { SseParser } from "./sse.ts";

const parse = (...chunks: string[]) => {
  const parser = new SseParser();
  return chunks.flatMap((chunk) => parser.push(chunk));
};

test("frames carry event, data and id; comments are ignored", () => {
  expect(parse(':hello\n\nid: a\nevent: update\ndata: {"x":1}\n\n')).toEqual([
    { event: "update", data: '{"x":1}', id: "a", retry: undefined },
  ]);
});

test("however the bytes are cut, the frames are the same", () => {
  const text = "id: a\r\nevent: update\r\ndata: one\r\ndata: two\r\n\r\nid:b\rdata:three\r\rretry: 250\ndata: four\n\n";
  const whole = parse(text);
  expect(whole.map((f) => f.data)).toEqual(["one\ntwo", "three", "four"]);
  expect(whole.map((f) => f.id)).toEqual(["a", "b", "b"]);
  expect(whole[2]?.retry).toBe(250);
  expect(parse(...text)).toEqual(whole);
});

test("an id alone moves the position; an unfinished frame is not given out", () => {
  expect(parse("id: p1\n\n", "data: half")).toEqual([{ event: "message", data: "", id: "p1", retry: undefined }]);
});
