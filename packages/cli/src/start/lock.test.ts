import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { AlreadyRunningError, takeLock } from "./lock.ts";
import { identify, isAlive } from "./processes.ts";

let folder: string;
let path: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "rootstock-lock-"));
  path = join(folder, "start.lock");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A process that lives until it is told to end. */
const sleeper = async () => {
  const child = spawn(process.execPath, ["-e", "process.stdin.resume(); console.log('up')"], {
    stdio: ["pipe", "pipe", "ignore"],
  });
  await once(child.stdout, "data");
  return {
    pid: child.pid ?? 0,
    end: async () => {
      const gone = once(child, "exit");
      child.kill("SIGKILL");
      await gone;
    },
  };
};

test("the lock is taken once and given back", () => {
  const unlock = takeLock(path);
  expect(() => takeLock(path)).toThrow(AlreadyRunningError);
  unlock();
  expect(existsSync(path)).toBe(false);
  takeLock(path)();
});

test("a living holder is named, with what to do", async () => {
  const other = await sleeper();
  writeFileSync(path, JSON.stringify(identify(other.pid)));
  expect(() => takeLock(path)).toThrow(`pid ${other.pid}`);
  expect(() => takeLock(path)).toThrow("--data");
  await other.end();
});

test("the lock of a holder that was killed is taken over", async () => {
  const other = await sleeper();
  const identity = identify(other.pid);
  writeFileSync(path, JSON.stringify(identity));
  await other.end();
  expect(identity && isAlive(identity)).toBe(false);
  const unlock = takeLock(path);
  expect(JSON.parse(readFileSync(path, "utf8")).pid).toBe(process.pid);
  unlock();
});

test("a stranger with the same process id does not hold the lock", () => {
  writeFileSync(path, JSON.stringify({ pid: process.pid, started: "another boot" }));
  takeLock(path)();
});

test.each(["", "{", "[]", '{"pid":-1,"started":"x"}', '{"pid":"7"}'])(
  "a damaged lock %j does not block for ever",
  (text) => {
    writeFileSync(path, text);
    takeLock(path)();
  },
);
