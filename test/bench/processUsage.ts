import { readdirSync, readFileSync } from "node:fs";

/** Figures of other processes, from /proc (Linux). */

/** Clock ticks per second in /proc: fixed for user space on Linux. */
const TICKS_PER_SECOND = 100;

/** The fields of /proc/PID/stat after the name; field 3 of the manual is the first. */
const statOf = (pid: number): string[] | undefined => {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    return text.slice(text.lastIndexOf(")") + 2).split(" ");
  } catch {
    return undefined;
  }
};

const field = (stat: readonly string[] | undefined, manual: number): number => Number(stat?.[manual - 3] ?? 0);

/** CPU time that a process has used so far, in milliseconds; 0 when it is gone. */
export const cpuMs = (pid: number): number => {
  const stat = statOf(pid);
  return ((field(stat, 14) + field(stat, 15)) * 1000) / TICKS_PER_SECOND;
};

/** CPU time of a server and all of its children, those that have ended included, in milliseconds. */
export const cpuOfFamilyMs = (pid: number): number => {
  const stat = statOf(pid);
  const ended = ((field(stat, 16) + field(stat, 17)) * 1000) / TICKS_PER_SECOND;
  const children = readdirSync("/proc")
    .map(Number)
    .filter((p) => Number.isInteger(p) && field(statOf(p), 4) === pid);
  return cpuMs(pid) + ended + children.reduce((sum, child) => sum + cpuMs(child), 0);
};

/** Resident memory of a process, in bytes. */
export const residentBytes = (pid: number): number => {
  const kilobytes = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Number(kilobytes) * 1024;
};

/** The process above a process; 0 when it cannot be seen. */
export const parentOf = (pid: number): number => field(statOf(pid), 4);
