import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "@jest/globals";

/** The weak points of the original as to who may do what (spec/03 section 10): each has a test that is named after it. */

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const LAST = 35;

const testFiles = (dir: string): string[] =>
  readdirSync(dir, { withFileTypes: true }).flatMap((entry) => {
    if (entry.name === "node_modules") return [];
    const path = join(dir, entry.name);
    if (entry.isDirectory()) return testFiles(path);
    // The names in this file are examples.
    return entry.name.endsWith(".test.ts") && path !== fileURLToPath(import.meta.url) ? [path] : [];
  });

/** The numbers in names such as `weak point 12: …` and `weak points 17 and 29: …`. */
const numbersIn = (text: string): number[] =>
  [...text.matchAll(/\btest(?:\.each\([^;]*?\))?\(\s*["'`]weak points? ([\d, and]+):/gs)].flatMap(([, list = ""]) =>
    [...list.matchAll(/\d+/g)].map(([n]) => Number(n)),
  );

test("each of the 35 weak points has a test named after it", () => {
  const found = new Set(
    [...testFiles(join(ROOT, "packages")), ...testFiles(join(ROOT, "test"))].flatMap((path) =>
      numbersIn(readFileSync(path, "utf8")),
    ),
  );
  const missing = Array.from({ length: LAST }, (_, i) => i + 1).filter((n) => !found.has(n));
  expect(missing).toEqual([]);
});

test("names are told from mentions", () => {
  const named = 'test("weak point 12: only admins", () => {});\ntest("weak points 17 and 29: tokens", () => {});';
  expect(numbersIn(`${named} // weak point 3: is mentioned`)).toEqual([12, 17, 29]);
});
