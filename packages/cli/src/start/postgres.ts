import { existsSync } from "node:fs";
import { join } from "node:path";
import {
  blockedFolder,
  makeDataFolder,
  postgresPrograms,
  postgresUser,
  readServerState,
  serverArguments,
} from "@rootstock/embedded-postgres";
import type { Clock } from "@rootstock/service";
import { CliError } from "../exitCodes.ts";
import type { DataDirectory } from "./dataDirectory.ts";
import { readIfPresent } from "./files.ts";
import { choosePort } from "./ports.ts";
import { identify, isAlive } from "./processes.ts";
import { type ProcessDeps, SupervisedProcess } from "./supervisedProcess.ts";

/** The cluster's database: a PostgreSQL of its own, on loopback, with a password, its data kept between runs. */
export interface EmbeddedPostgres {
  readonly process: SupervisedProcess;
  readonly url: string;
}

const USER = "rootstock";
const DATABASE = "postgres";
const POLL_MS = 25;
/** A server that comes back from a crash replays its log first. */
const READY_TIMEOUT_MS = 120_000;
const STOP_GRACE_MS = 30_000;

/**
 * A server that this command did not start (its own leftovers have been ended before) must not be disturbed; a pid
 * file without a server behind it is PostgreSQL's own matter.
 */
const refuseForeignServer = (dir: string): void => {
  const pid = readServerState(dir)?.pid;
  const identity = pid === undefined ? undefined : identify(pid);
  if (!identity || !isAlive(identity)) return;
  const commandLine = readIfPresent(`/proc/${pid}/cmdline`);
  if (commandLine !== undefined && !commandLine.includes(dir)) return;
  throw new CliError(`a PostgreSQL server (pid ${pid}) already runs on ${dir}; stop it first`);
};

const untilReady = async (dir: string, pid: number | undefined, clock: Clock, signal: AbortSignal): Promise<void> => {
  while (!signal.aborted) {
    const state = readServerState(dir);
    if (state?.ready && state.pid === pid) return;
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
  const programs = await postgresPrograms(user, data.root);
  if (!existsSync(data.postgres)) {
    await makeDataFolder(data.postgres, { programs, user, superuser: USER, password: p.password });
  }
  refuseForeignServer(data.postgres);
  const port = await choosePort(p.preferredPort, deps.base.random);
  const process = new SupervisedProcess(
    {
      name: "postgres",
      command: async () => ({
        file: programs.postgres,
        args: serverArguments(data.postgres, port, { max_connections: String(p.maxConnections) }),
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
