import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { type Base, Probe, systemClock, systemRandom } from "@rootstock/service";
import { testLog } from "@rootstock/testkit";
import { endProcess, Ledger } from "./ledger.ts";
import { isAlive } from "./processes.ts";
import { type ProcessNews, type ProcessSpec, SupervisedProcess } from "./supervisedProcess.ts";

const base: Base = { clock: systemClock, random: systemRandom, log: testLog() };

/** Says that it serves, then waits; SIGTERM ends it cleanly. */
const SERVER = `process.on("SIGTERM", () => { console.log("bye"); process.exit(0); });
process.on("disconnect", () => process.exit(0));
process.send("up");`;

/** Something open that keeps a process alive. */
const STAYS = 'require("node:net").createServer().listen(0, "127.0.0.1");';

let folder: string;
let news: Probe<ProcessNews>;
let ledger: Ledger;
const running: SupervisedProcess[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "rootstock-process-"));
  news = new Probe();
  ledger = new Ledger(join(folder, "processes.json"));
});
afterEach(async () => {
  await Promise.all(running.splice(0).map((p) => p.stop()));
  rmSync(folder, { recursive: true, force: true });
});

const supervise = (script: string | (() => string), spec: Partial<ProcessSpec> = {}): SupervisedProcess => {
  const process_ = new SupervisedProcess(
    {
      name: "child",
      command: async () => ({ file: process.execPath, args: ["-e", typeof script === "string" ? script : script()] }),
      logFile: join(folder, "child.log"),
      channel: true,
      ready: (child) => new Promise((resolve) => child.once("message", () => resolve())),
      readyTimeoutMs: 10_000,
      stopSignal: "SIGTERM",
      stopGraceMs: 10_000,
      ...spec,
    },
    { base, ledger, onNews: (n) => news.emit(n) },
  );
  running.push(process_);
  return process_;
};

const log = (): string => readFileSync(join(folder, "child.log"), "utf8");

describe("start and stop", () => {
  test("start waits until the process serves, stop asks it to end", async () => {
    const child = supervise(SERVER);
    await child.start();
    const [entry] = new Ledger(join(folder, "processes.json")).leftovers();
    expect(entry).toMatchObject({ name: "child", pid: child.pid });
    await child.stop();
    expect(entry && isAlive(entry)).toBe(false);
    expect(log()).toContain("bye");
    expect(new Ledger(join(folder, "processes.json")).leftovers()).toEqual([]);
  });

  test("both may be called twice, and stop without start", async () => {
    const child = supervise(SERVER);
    await child.stop();
    await child.start();
    const { pid } = child;
    await child.start();
    expect(child.pid).toBe(pid);
    await Promise.all([child.stop(), child.stop()]);
  });

  test("a process that ends before it serves fails the start, with the end of its log", async () => {
    const child = supervise('console.error("no database"); process.exit(3)');
    await expect(child.start()).rejects.toThrow(/child did not start: exit code 3[\s\S]*no database/);
  });

  test("a program that does not exist fails the start", async () => {
    const child = supervise("", { command: async () => ({ file: join(folder, "none"), args: [] }) });
    await expect(child.start()).rejects.toThrow("ENOENT");
  });

  test("a process that never serves fails the start and is ended", async () => {
    const child = supervise(STAYS, { readyTimeoutMs: 200 });
    await expect(child.start()).rejects.toThrow("not ready after 200 ms");
    expect(child.pid).toBeUndefined();
  });

  test("a process that does not listen to its stop signal is killed", async () => {
    const child = supervise(`process.on("SIGTERM", () => {}); ${STAYS} process.send("up");`, {
      stopGraceMs: 100,
    });
    await child.start();
    await child.stop();
    expect(child.pid).toBeUndefined();
  });
});

describe("death", () => {
  test("a process that dies is started again, as a new one", async () => {
    const child = supervise(SERVER);
    await child.start();
    const first = child.pid;
    const died = news.next((n) => n.kind === "died");
    const back = news.next((n) => n.kind === "ready");
    process.kill(first ?? 0, "SIGKILL");
    expect(await died).toMatchObject({ name: "child", how: "ended by SIGKILL" });
    expect(await back).toMatchObject({ kind: "ready", pid: child.pid });
    expect(child.pid).not.toBe(first);
  });

  test("a new life that fails at once is followed by another", async () => {
    let lives = 0;
    const child = supervise(() => {
      lives += 1;
      return lives === 2 ? "process.exit(1)" : SERVER;
    });
    await child.start();
    const back = news.next((n) => n.kind === "ready");
    process.kill(child.pid ?? 0, "SIGKILL");
    await back;
    expect(lives).toBe(3);
  });

  test("a stop while the next life is due starts nothing more", async () => {
    let lives = 0;
    const child = supervise(() => {
      lives += 1;
      return SERVER;
    });
    await child.start();
    const died = news.next((n) => n.kind === "died");
    process.kill(child.pid ?? 0, "SIGKILL");
    await died;
    await child.stop();
    expect(child.pid).toBeUndefined();
    expect(lives).toBe(1);
  });
});

test("what an earlier run left behind is found by its ledger and ended", async () => {
  // Its parent is this process, which stays: the child must not end by itself.
  const child = supervise(SERVER, { channel: true });
  await child.start();
  const [leftover] = new Ledger(join(folder, "processes.json")).leftovers();
  if (!leftover) throw new Error("nothing noted");
  const gone = news.next((n) => n.kind === "died");
  await endProcess(systemClock, leftover, "SIGTERM", 10_000);
  expect(isAlive(leftover)).toBe(false);
  await gone;
});
