import { expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import { decodeCommands, encodeCommands } from "./signals.ts";

const ids = (n: number) => Array.from({ length: n }, () => systemRandom.uuid());

test("ids come back as they went, and every payload stays below PostgreSQL's limit", () => {
  const wake = ids(450);
  const done = ids(300);
  const payloads = encodeCommands(wake, done);
  const decoded = payloads.map(decodeCommands);
  expect(decoded.flatMap((c) => c.wake)).toEqual(wake);
  expect(decoded.flatMap((c) => c.done)).toEqual(done);
  expect(Math.max(...payloads.map((p) => p.length))).toBeLessThan(7_000);
  expect(decoded.some((c) => c.everything)).toBe(false);
});

test("too many ids become: look at everything", () => {
  const [payload = "", ...more] = encodeCommands(ids(5_000), []);
  expect(more).toEqual([]);
  expect(decodeCommands(payload)).toMatchObject({ everything: true, wake: [] });
});

test("a payload that is not understood means everything, never nothing", () => {
  const [known = ""] = encodeCommands(ids(1), []);
  for (const payload of ["", "{}", "w123", `${known}z`, `x${known.slice(1)}`])
    expect(decodeCommands(payload).everything).toBe(true);
});

test("nothing to say is not said", () => {
  expect(encodeCommands([], [])).toEqual([]);
});
