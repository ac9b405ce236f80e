import { expect, test } from "@jest/globals";
import { normalizeGitRemote, slugify, withoutCredentials } from "./slug.ts";

test.each([
  ["https://user:to%40ken@git.example.org/o/r.git", "https://git.example.org/o/r.git"],
  ["HTTPS://token@git.example.org:8443/o/r", "HTTPS://git.example.org:8443/o/r"],
  ["http://user:t@k/en@git.example.org/o", "http://k/en@git.example.org/o"],
  ["https://user:p@ss@git.example.org/o/r", "https://git.example.org/o/r"],
  ["https://git.example.org/o/r@v1?a=b@c", "https://git.example.org/o/r@v1?a=b@c"],
  ["ssh://git@git.example.org/o/r", "ssh://git@git.example.org/o/r"],
  ["ssh://git:secret@git.example.org:22/o/r", "ssh://git@git.example.org:22/o/r"],
  ["git@git.example.org:o/r", "git@git.example.org:o/r"],
  ["", ""],
])("%j is shown as %j", (given, shown) => {
  expect(withoutCredentials(given)).toBe(shown);
});

test.each(["https://user:p@ss@git.example.org/o/r.git", "git@git.example.org:o/r", "https://git.example.org/o/r/"])(
  "%j is kept without whoever fetches from it",
  (remote) => {
    expect(normalizeGitRemote(remote)).toBe("git.example.org/o/r");
  },
);

test("a text of a million slashes is read as fast as any: one at a time from each of them, it would take hours", () => {
  const slashes = "/".repeat(1_000_000);
  expect(normalizeGitRemote(`https://host${slashes}x${slashes}.git${slashes}`)).toBe(`host${slashes}x`);
  expect(slugify(`a${"-".repeat(1_000_000)}b`)).toBe("a-b");
});
