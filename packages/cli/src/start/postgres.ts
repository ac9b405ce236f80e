import { execFile } from "node:child_process";
import { chownSync, existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Clock } from "@rootstock/service";
import { CliError } from "../exitCodes.ts";
import type { DataDirectory } from "./dataDirectory.ts";
import { readIfPresent } from "./files.ts";
import { choosePort } from "./ports.ts";
import {
  blockedFolder,
  type PostgresBinaries,
  postgresBinaries,
  postgresUser,
  type UnixUser,
} from "./postgresBinaries.ts";
import { identify, isAlive } from "./processes.ts";
import { type ProcessDeps, SupervisedProcess } from "./supervisedProcess.ts";

/** The cluster's database: a PostgreSQL of its own, on loopback, with a password, its data kept between runs. */
export interface EmbeddedPostgres {
  readonly process: SupervisedProcess;
  readonly url: string;
}

const run = promisify(execFile);

const USER = "rootstock";
const DATABASE = "postgres";
const POLL_MS = 25;
/** A server that comes back from a crash replays its log first. */
const READY_TIMEOUT_MS = 120_000;
const STOP_GRACE_MS = 30_000;

/** Makes a new cluster of databases beside its final place and moves it there when it is whole. */
const initialise = async (
  data: DataDirectory,
  binaries: PostgresBinaries,
  user: UnixUser | undefined,
  password: string,
): Promise<void> => {
  const partial = `${data.postgres}.new`;
  rmSync(partial, { recursive: true, force: true });
  mkdirSync(partial, { mode: 0o700 });
  const passwordFile = join(partial, "..", "database-password.init");
  writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 });
  if (user) for (const path of [partial, passwordFile]) chownSync(path, user.uid, user.gid);
  try {
    await run(
      binaries.initdb,
      [
        `--pgdata=${partial}`,
        `--username=${USER}`,
        `--pwfile=${passwordFile}`,
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
      ],
      { ...user, cwd: data.root },
    );
  } catch (cause) {
    const detail = typeof cause === "object" && cause !== null ? Reflect.get(cause, "stderr") : undefined;
    throw new CliError(`PostgreSQL's initdb failed: ${typeof detail === "string" ? detail.trim() : String(cause)}`, {
      cause,
    });
  } finally {
    rmSync(passwordFile, { force: true });
  }
  renameSync(partial, data.postgres);
};

/** The pid file that PostgreSQL keeps: the server's process id in line 1, its state in line 8. */
const readPidFile = (dir: string): { readonly pid: number; readonly state: string } | undefined => {
  const lines = readIfPresent(join(dir, "postmaster.pid"))?.split("\n");
  const pid = Number(lines?.[0]);
  return lines && Number.isSafeInteger(pid) ? { pid, state: lines[7]?.trim() ?? "" } : undefined;
};

/**
 * A server that this command did not start (its own leftovers have been ended before) must not be disturbed; a pid
 * file without a server behind it is PostgreSQL's own matter.
 */
const refuseForeignServer = (dir: string): void => {
  const pid = readPidFile(dir)?.pid;
  const identity = pid === undefined ? undefined : identify(pid);
  if (!identity || !isAlive(identity)) return;
  const commandLine = readIfPresent(`/proc/${pid}/cmdline`);
  if (commandLine !== undefined && !commandLine.includes(dir)) return;
  throw new CliError(`a PostgreSQL server (pid ${pid}) already runs on ${dir}; stop it first`);
};

const untilReady = async (dir: string, pid: number | undefined, clock: Clock, signal: AbortSignal): Promise<void> => {
  while (!signal.aborted) {
    const file = readPidFile(dir);
    if (file && file.pid === pid && file.state === "ready") return;
    await clock.sleep(POLL_MS, signal);
  }
};

/**
 * Prepares the database of a data directory: programs, user, data. Nothing runs until `process.start()`.
 * @throws CliError when the place cannot be used
 */
export const embeddedPostgres = async (p: {
  readonly data: DataDirectory;
  readonly password: string;
  readonly maxConnections: number;
  /** Taken if it is free. */
  readonly preferredPort: number;
  readonly deps: ProcessDeps;
}): Promise<EmbeddedPostgres> => {
  const { data, deps } = p;
  const user = await postgresUser();
  const blocked = user && blockedFolder(data.root, user);
  if (blocked) {
    throw new CliError(
      `PostgreSQL runs as the user "postgres", which cannot enter ${blocked}. Choose another directory with --data or ROOTSTOCK_DATA.`,
    );
  }
  const binaries = await postgresBinaries(user, data.root);
  if (!existsSync(data.postgres)) await initialise(data, binaries, user, p.password);
  refuseForeignServer(data.postgres);
  const port = await choosePort(p.preferredPort);
  const settings = {
    port: String(port),
    listen_addresses: "127.0.0.1",
    // No socket file: it would need a folder that both users may write, and a name that no second cluster uses.
    unix_socket_directories: "",
    max_connections: String(p.maxConnections),
  };
  const process = new SupervisedProcess(
    {
      name: "postgres",
      command: async () => ({
        file: binaries.postgres,
        args: ["-D", data.postgres, ...Object.entries(settings).flatMap(([k, v]) => ["-c", `${k}=${v}`])],
        options: { ...user, cwd: data.root },
      }),
      logFile: join(data.logs, "postgres.log"),
      channel: false,
      ready: (child, signal) => untilReady(data.postgres, child.pid, deps.base.clock, signal),
      readyTimeoutMs: READY_TIMEOUT_MS,
      stopSignal: "SIGINT",
      stopGraceMs: STOP_GRACE_MS,
    },
    deps,
  );
  return { process, url: `postgres://${USER}:${p.password}@127.0.0.1:${port}/${DATABASE}` };
};
