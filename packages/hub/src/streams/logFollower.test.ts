import { expect, test } from "@jest/globals";
import { testBase } from "@rootstock/testkit";
import type { AgentStream } from "./agentStream.ts";
import { LogFollower } from "./logFollower.ts";

test("a log that comes a byte at a time costs a reader that is behind no more than one that comes in pieces", async () => {
  const options = { limitMs: 0, recheck: async () => undefined, onLeft: () => {} };
  const follower = new LogFollower(testBase(), options);
  let consumed = 0;
  const stream: AgentStream = {
    write: () => {},
    resize: () => {},
    consumed: (bytes) => {
      consumed += bytes;
    },
    close: () => {},
  };
  // Kept one by one, as many bytes took minutes.
  const lines = 4_000;
  const text = Buffer.from(`${"x".repeat(99)}\n`.repeat(lines));
  const answer = follower.respond(stream);
  for (let at = 0; at < text.byteLength; at += 1) follower.onData(text.subarray(at, at + 1));
  follower.onClose({ code: 0, reason: "session ended" });
  const shown = await answer.text();
  expect(shown.match(/"message":"x{99}"/g)).toHaveLength(lines);
  expect(consumed).toBe(text.byteLength);
});
