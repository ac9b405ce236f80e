import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { platform } from "node:process";

/**
 * A process that cannot be mistaken for another: process ids are reused, a pair of id and start time is not. Kept on
 * disk, so that a later run can tell a leftover of this one from a stranger with the same id.
 */
export interface ProcessIdentity {
  readonly pid: number;
  /** When it started, in the platform's own notation: only ever compared. */
  readonly started: string;
}

/** Linux: field 22 of `/proc/<pid>/stat` with the boot's id. The name in field 2 may hold spaces and parentheses. */
const startedOnLinux = (pid: number): string | undefined => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const [state, ticks] = [fields[0], fields[19]];
    if (state === "Z" || state === "X" || ticks === undefined) return undefined;
    return `${readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()}/${ticks}`;
  } catch {
    return undefined;
  }
};

const startedElsewhere = (pid: number): string | undefined => {
  try {
    const line = execFileSync("ps", ["-o", "stat=,lstart=", "-p", String(pid)], { encoding: "utf8" }).trim();
    return line === "" || line.startsWith("Z") ? undefined : line.slice(line.indexOf(" ")).trim();
  } catch {
    return undefined;
  }
};

/** The identity of the living process `pid`; undefined when there is none (a zombie does not live). */
export const identify = (pid: number): ProcessIdentity | undefined => {
  const started = platform === "linux" ? startedOnLinux(pid) : startedElsewhere(pid);
  return started === undefined ? undefined : { pid, started };
};

/** Whether exactly this process still lives. */
export const isAlive = (identity: ProcessIdentity): boolean => identify(identity.pid)?.started === identity.started;

/** Sends a signal to exactly this process; false when it does not live any more. */
export const signalProcess = (identity: ProcessIdentity, signal: NodeJS.Signals): boolean => {
  if (!isAlive(identity)) return false;
  try {
    process.kill(identity.pid, signal);
    return true;
  } catch {
    return false;
  }
};

/** Reads what {@link identify} gave, from a file that anybody may have damaged. */
export const parseIdentity = (value: unknown): ProcessIdentity | undefined => {
  if (typeof value !== "object" || value === null || !("pid" in value) || !("started" in value)) return undefined;
  const { pid, started } = value;
  if (typeof pid !== "number" || !Number.isSafeInteger(pid) || pid <= 0 || typeof started !== "string")
    return undefined;
  return { pid, started };
};
