import { expect, test } from "@jest/globals";
import { parseRateRules } from "./index.ts";

test("what is configured changes the defaults, and off is off", () => {
  const usual = parseRateRules("");
  const changed = parseRateRules("login=60/m, address=100/s:500 ,poll=off, code=30/h, streams=7");
  expect(changed.streams).toBe(7);
  expect(parseRateRules("streams=off").streams).toBeUndefined();
  expect(changed.login).toEqual({ burst: 60, perSecond: 1 });
  expect(changed.address).toEqual({ burst: 500, perSecond: 100 });
  expect(changed.poll).toBeUndefined();
  expect(changed.code).toEqual({ burst: 30, perSecond: 30 / 3_600 });
  expect(changed.refresh).toEqual(usual.refresh);
  expect(parseRateRules("off")).toEqual({});
});

test.each([
  "logn=60/m",
  "login",
  "login=60",
  "login=0/m",
  "login=60/d",
  "login=-1/m",
  "login=60/m:0",
  "login=9999999/s",
  "streams=0",
  "streams=60/m",
  "streams=9999999",
])("what is no limit is refused: %s", (text) => {
  expect(() => parseRateRules(text)).toThrow(RangeError);
});
