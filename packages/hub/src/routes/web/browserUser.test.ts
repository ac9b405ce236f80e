import { expect, test } from "@jest/globals";
import { safeReturnTo } from "./browserUser.ts";

test.each([
  ["/agents/a1?tab=logs#end", "/agents/a1?tab=logs#end"],
  ["/", "/"],
  ["/loginless", "/loginless"],
  ["/device?code=AB", "/device?code=AB"],
])("a path of this hub is gone back to: %s", (given, expected) => {
  expect(safeReturnTo(given)).toBe(expected);
});

test.each([
  "https://evil.example/",
  "//evil.example/",
  "/\\evil.example/",
  "\\\\evil.example/",
  "/.//evil.example/",
  "/x/..//evil.example/",
  "/\t/evil.example/",
  "\n//evil.example/",
  "javascript:alert(1)",
  "evil.example",
  "/auth/logout",
  "/x/../auth/logout",
  "/login?error=x",
  "",
  `/${"a".repeat(3_000)}`,
])("weak point 6: what might lead elsewhere is not gone back to: %j", (given) => {
  expect(safeReturnTo(given)).toBe("/");
});
