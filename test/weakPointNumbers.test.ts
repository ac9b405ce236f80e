import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "@jest/globals";

/**
 * The weak points of the original as to who may do what (spec/03 section 10, and of spec/05 section 17 those that concern
 * access): each has a test that is named after it.
 */

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const LAST = 35;

/** All of spec/05 section 17. */
const RESOURCES = [
  ...["1", "2", "3", "4", "5", "6", "7", "8", "8a", "8b", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18"],
  ...["19", "20", "21", "22", "23"],
];

/** Those of them that are about something else than access, and about what. */
const NOT_ACCESS: Readonly<Record<string, string>> = {
  "12": "shapes: a list that the CLI cannot read, a route that is missing, a status that is not stored",
  "17": "delivery: a message to a channel that nobody has is lost behind a 200, filters shift",
  "18": "scale: lists that cannot be read to their end, and scans",
  "19": "concurrency: of two writers to one list of files the last one wins",
  "22": "delay: one slow target of hooks holds up the others",
  "23": "delay: a clone that takes longer than the lock is waited for",
};

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

/** The numbers in names such as `spec/05 section 17, 2, 4 and 8a: …`. */
const resourceNumbersIn = (text: string): string[] =>
  [...text.matchAll(/\btest(?:\.each\([^;]*?\))?\(\s*["'`]spec\/05 section 17, ([\dab, and]+):/gs)].flatMap(
    ([, list = ""]) => [...list.matchAll(/\d+[ab]?/g)].map(([n]) => n),
  );

const foundBy = <N>(numbers: (text: string) => readonly N[]): ReadonlySet<N> =>
  new Set(
    [...testFiles(join(ROOT, "packages")), ...testFiles(join(ROOT, "test"))].flatMap((path) =>
      numbers(readFileSync(path, "utf8")),
    ),
  );

test("each of the 35 weak points has a test named after it", () => {
  const found = foundBy(numbersIn);
  const missing = Array.from({ length: LAST }, (_, i) => i + 1).filter((n) => !found.has(n));
  expect(missing).toEqual([]);
});

test("each weak point of the resources that concerns access has a test named after it", () => {
  const found = foundBy(resourceNumbersIn);
  expect(RESOURCES.filter((n) => !found.has(n))).toEqual(Object.keys(NOT_ACCESS));
});

test("names are told from mentions", () => {
  const named = 'test("weak point 12: only admins", () => {});\ntest("weak points 17 and 29: tokens", () => {});';
  expect(numbersIn(`${named} // weak point 3: is mentioned`)).toEqual([12, 17, 29]);
  const resources = 'test("spec/05 section 17, 2, 4 and 8a: files", () => {}); // spec/05 section 17, 6: is mentioned';
  expect(resourceNumbersIn(resources)).toEqual(["2", "4", "8a"]);
});
