import { expect, test } from "@jest/globals";
import { systemClock } from "@rootstock/service";
import type { Channel } from "../link/channel.ts";
import { OutputFlow } from "./outputFlow.ts";

/** A socket that takes every frame at once, as one does whose other end keeps up; `rest` lets the timers ring. */
const flow = () => {
  const frames: string[] = [];
  const timers: (() => void)[] = [];
  const channel: Channel = {
    maxFrameBytes: 1_048_576,
    streamWindowBytes: undefined,
    pendingBytes: 0,
    send: (frame, sent) => {
      if (frame.type === "stream") frames.push(Buffer.from(frame.data ?? "", "base64").toString());
      sent?.();
    },
  };
  const after = (_: number, fn: () => void) => {
    timers.push(fn);
    return { cancel: () => {} };
  };
  const output = new OutputFlow({ ...systemClock, after }, channel, "s1");
  const rest = () => {
    for (const ring of timers.splice(0)) ring();
  };
  return { output, frames, rest };
};

test("what little is shown goes at once", () => {
  const { output, frames } = flow();
  for (const key of ["l", "s", "\r\n"]) output.send(Buffer.from(key));
  expect(frames).toEqual(["l", "s", "\r\n"]);
});

test("of a program that prints on and on, which comes a few kilobytes at a time, little more than whole pieces go, in order", () => {
  const { output, frames, rest } = flow();
  const reads = Array.from({ length: 256 }, (_, n) => String.fromCharCode(97 + (n % 26)).repeat(4_095));
  for (const [n, read] of reads.entries()) {
    output.send(Buffer.from(read));
    if (n % 8 === 7) rest();
  }
  output.finish();
  expect(frames.join("") === reads.join("")).toBe(true);
  expect(frames.length).toBeLessThan(reads.length / 4);
});
