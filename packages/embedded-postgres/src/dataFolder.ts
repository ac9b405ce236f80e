import { chownSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { NoPostgresError, type PostgresPrograms } from "./programs.ts";
import { run, type UnixUser } from "./run.ts";

export interface DataFolderOptions {
  readonly programs: PostgresPrograms;
  /** Whom the server runs as; undefined: as this process. */
  readonly user: UnixUser | undefined;
  /** The database's superuser and its password. */
  readonly superuser: string;
  readonly password: string;
  /** Skips waiting for the disk, for data that nobody will miss. */
  readonly noSync?: boolean;
}

/**
 * Makes a data folder (UTF-8, password login) beside its final place and moves it there when it is whole: a run that is
 * killed on the way leaves nothing that looks like one.
 */
export const makeDataFolder = async (dir: string, options: DataFolderOptions): Promise<void> => {
  const { programs, user, superuser, password, noSync } = options;
  const partial = `${dir}.new`;
  const passwordFile = `${dir}.password`;
  rmSync(partial, { recursive: true, force: true });
  mkdirSync(partial, { mode: 0o700 });
  writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 });
  if (user) for (const path of [partial, passwordFile]) chownSync(path, user.uid, user.gid);
  const args = [
    `--pgdata=${partial}`,
    `--username=${superuser}`,
    `--pwfile=${passwordFile}`,
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
  ];
  try {
    await run(programs.initdb, noSync ? [...args, "--no-sync"] : args, { ...user, cwd: dirname(dir) });
  } catch (cause) {
    const detail: unknown = typeof cause === "object" && cause !== null ? Reflect.get(cause, "stderr") : undefined;
    const text = typeof detail === "string" ? detail.trim() : String(cause);
    throw new NoPostgresError(`PostgreSQL's initdb failed: ${text}`, { cause });
  } finally {
    rmSync(passwordFile, { force: true });
  }
  renameSync(partial, dir);
};

/** Arguments of a server that listens on loopback only. Without a socket file: two servers would fight for its name. */
export const serverArguments = (
  dir: string,
  port: number,
  settings: Readonly<Record<string, string>> = {},
): readonly string[] => {
  const all = { port: String(port), listen_addresses: "127.0.0.1", unix_socket_directories: "", ...settings };
  return ["-D", dir, ...Object.entries(all).flatMap(([name, value]) => ["-c", `${name}=${value}`])];
};

/**
 * The process that serves a data folder, or last did, from the file that the server keeps. `ready`: it takes connections,
 * if only to read, as a standby.
 */
export const readServerState = (dir: string): { readonly pid: number; readonly ready: boolean } | undefined => {
  try {
    const lines = readFileSync(join(dir, "postmaster.pid"), "utf8").split("\n");
    const pid = Number(lines[0]);
    return Number.isSafeInteger(pid)
      ? { pid, ready: ["ready", "standby"].includes(lines[7]?.trim() ?? "") }
      : undefined;
  } catch {
    return undefined;
  }
};
