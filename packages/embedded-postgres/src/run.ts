import { execFile } from "node:child_process";
import { promisify } from "node:util";

/** A user and group of the machine, by number. */
export interface UnixUser {
  readonly uid: number;
  readonly gid: number;
}

/** Runs a program to its end. */
export const run = promisify(execFile);
