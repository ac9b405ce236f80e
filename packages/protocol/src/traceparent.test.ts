import { expect, test } from "@jest/globals";
import { formatTraceparent, parseTraceparent } from "./index.ts";

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN = "00f067aa0ba902b7";

test("a traceparent is read, and written as version 00", () => {
  const read = parseTraceparent(`00-${TRACE}-${SPAN}-01`);
  expect(read).toEqual({ traceId: TRACE, spanId: SPAN, sampled: true });
  expect(read && formatTraceparent(read)).toBe(`00-${TRACE}-${SPAN}-01`);
  expect(parseTraceparent(`00-${TRACE}-${SPAN}-00`)?.sampled).toBe(false);
  expect(parseTraceparent(`00-${TRACE}-${SPAN}-03`)?.sampled).toBe(true);
});

test("of a later version the known fields count", () => {
  expect(parseTraceparent(`cc-${TRACE}-${SPAN}-01-what-else`)).toEqual({ traceId: TRACE, spanId: SPAN, sampled: true });
});

test.each([
  ["nothing", undefined],
  ["an empty text", ""],
  ["version ff", `ff-${TRACE}-${SPAN}-01`],
  ["more fields than version 00 has", `00-${TRACE}-${SPAN}-01-more`],
  ["a trace id of zeros", `00-${"0".repeat(32)}-${SPAN}-01`],
  ["a span id of zeros", `00-${TRACE}-${"0".repeat(16)}-01`],
  ["capitals", `00-${TRACE.toUpperCase()}-${SPAN}-01`],
  ["too few digits", `00-${TRACE.slice(1)}-${SPAN}-01`],
  ["two values in one header", `00-${TRACE}-${SPAN}-01, 00-${TRACE}-${SPAN}-01`],
  ["a long later version", `01-${TRACE}-${SPAN}-01-${"x".repeat(500)}`],
])("%s is ignored", (_, text) => {
  expect(parseTraceparent(text)).toBeUndefined();
});
