import { afterEach, expect, jest, test } from "@jest/globals";
import { Screen } from "./terminal.ts";

afterEach(() => {
  jest.restoreAllMocks();
});

test("output that is no text is shown as far as it can be, and said nothing about: what the host says fills a file", async () => {
  const said = [jest.spyOn(console, "error"), jest.spyOn(console, "warn"), jest.spyOn(console, "log")];
  const screen = new Screen({ cols: 20, rows: 5 }, () => {});
  const everyByte = Buffer.from(Array.from({ length: 256 }, (_, n) => n));
  for (const bytes of [Buffer.from("\x7f\x7f\x1b[\u0100\x1b]\u0355"), everyByte, Buffer.from("\x1b[H\x1b[2Jhere")])
    screen.feed(bytes, () => {});
  expect(await screen.capture(false)).toContain("here");
  for (const spy of said) expect(spy).not.toHaveBeenCalled();
});
