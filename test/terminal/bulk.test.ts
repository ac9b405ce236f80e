import { readFile, writeFile } from "node:fs/promises";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { eventually, Scene, TerminalClient } from "@rootstock/testkit";
import { BULK_LINE, startBulkMachine } from "./bulkMachine.ts";
import { MIB, replicaProcess } from "./stage.ts";

/** A gigabyte of a program's output through a slow reader: our runtime broker, its owner, a peer relay, each a process. */

const TOTAL = 1_024 * MIB;
/** The reader stops after each part of this size until everything before it has come to a halt. */
const PART = TOTAL / 8;
/** What the windows and the collector's slack may add to a process, whatever passes through it. */
const MAX_GROWTH = 128 * MIB;

let scene: Scene;
beforeEach(async () => {
  scene = await Scene.create();
});
afterEach(() => scene.end());

test("no process grows, nothing is lost, and the program waits for its reader", async () => {
  const owner = await replicaProcess(scene, "owner");
  const entry = await replicaProcess(scene, "entry");
  const machine = await startBulkMachine(scene, owner, TOTAL);
  const pids = { owner: owner.pid, entry: entry.pid, runtimeBroker: machine.pid };
  const client = await TerminalClient.attach(entry, machine.agent, { discard: true });
  scene.onEnd(async () => client.cut());
  await eventually(() => client.received === "ready".length);
  const before = await memoryOf(pids, "VmRSS");
  for (const name of names(pids)) await writeFile(`/proc/${pids[name]}/clear_refs`, FORGET_PEAK);
  const pattern = Buffer.from(BULK_LINE.repeat(400));
  const got = { bytes: 0, faults: 0, halts: 0 };
  client.onOutput.on((data) => {
    const at = got.bytes % BULK_LINE.length;
    if (!data.equals(pattern.subarray(at, at + data.byteLength))) got.faults += 1;
    got.bytes += data.byteLength;
    if (Math.floor(got.bytes / PART) <= got.halts || got.bytes === TOTAL) return;
    got.halts += 1;
    client.pause();
    void halted(machine.pid).then(() => client.resume());
  });
  client.type("g");
  await eventually(() => got.bytes === TOTAL, 540_000);
  expect(got).toMatchObject({ faults: 0, halts: 7 });
  const peak = await memoryOf(pids, "VmHWM");
  for (const name of names(pids)) expect([name, peak[name] - before[name] < MAX_GROWTH]).toEqual([name, true]);
}, 600_000);

/** Told to `clear_refs` of a process: its peak begins anew. */
const FORGET_PEAK = "5";

type Figures = Readonly<Record<"owner" | "entry" | "runtimeBroker", number>>;

const names = (of: Figures) => Object.keys(of) as (keyof Figures)[];

/** Resident bytes: now, or the most so far. */
const memoryOf = async (pids: Figures, figure: "VmRSS" | "VmHWM"): Promise<Figures> => {
  const resident = async (pid: number) => {
    const status = await readFile(`/proc/${pid}/status`, "utf8");
    return Number(new RegExp(`${figure}:\\s+(\\d+) kB`).exec(status)?.[1] ?? 0) * 1_024;
  };
  return {
    owner: await resident(pids.owner),
    entry: await resident(pids.entry),
    runtimeBroker: await resident(pids.runtimeBroker),
  };
};

/** Resolves once the process has written nothing for three looks in a row: its own reader has stopped. */
const halted = async (pid: number): Promise<void> => {
  let written = -1;
  let same = 0;
  await eventually(async () => {
    const now = Number(/wchar: (\d+)/.exec(await readFile(`/proc/${pid}/io`, "utf8"))?.[1]);
    same = now === written ? same + 1 : 0;
    written = now;
    return same >= 3;
  }, 60_000);
};
