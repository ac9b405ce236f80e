import { expect, test } from "@jest/globals";
import { systemClock } from "@rootstock/service";
import { closeOf } from "./closeCodes.ts";

test.each([
  ["x".repeat(20_000), "x".repeat(123)],
  ["ü".repeat(20_000), "ü".repeat(61)],
  [`${"x".repeat(122)}${"😀".repeat(20_000)}`, "x".repeat(122)],
  [`${"x".repeat(119)}😀${"x".repeat(20_000)}`, `${"x".repeat(119)}😀`],
])("a reason of any length is cut between characters, and holds up nobody", (reason, cut) => {
  const begun = systemClock.elapsed();
  expect(closeOf({ code: 4499, reason })).toEqual({ code: 4499, reason: cut });
  // A runtime broker may send a megabyte of it; cut one by one, these few kilobytes took seconds.
  expect(systemClock.elapsed() - begun).toBeLessThan(1_000);
});
