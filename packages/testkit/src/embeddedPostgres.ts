import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import {
  makeDataFolder,
  postgresPrograms,
  postgresUser,
  readServerState,
  serverArguments,
} from "@rootstock/embedded-postgres";
import { freePort, systemRandom } from "@rootstock/service";
import { eventually } from "./eventually.ts";
import { logFile, noteSecrets } from "./runRecord.ts";
import { scratchFolder } from "./scratchFolder.ts";
import { databaseAt } from "./testDatabase.ts";

/** A PostgreSQL server that a test owns: it may be stopped and started again. */
export interface OwnedPostgres {
  readonly url: string;
  /** Ends the server and every connection at once; data stay. */
  takeDown(): Promise<void>;
  /** As `takeDown`, without a last word to the disk: what the server has not yet written is lost, as in a crash. */
  crash(): Promise<void>;
  bringUp(): Promise<void>;
  /** As `bringUp`, as a standby that waits for more of its primary's log: it can be read, and refuses every write. */
  bringUpAsStandby(): Promise<void>;
  /** The standby becomes a primary, with a history of its own from here on. Connections stay. */
  promote(): Promise<void>;
  /** One after the other. */
  restart(): Promise<void>;
  /** Stops every process of the server where it is: connections stay and are accepted, and nothing is answered. */
  freeze(): Promise<void>;
  /** Lets them go on. */
  thaw(): Promise<void>;
  stop(): Promise<void>;
}

const USER = "postgres";
/** For data that nobody misses, and little of it: they may lie in memory. */
const IN_PASSING = { fsync: "off", max_wal_size: "256MB" };

const childrenOf = async (pid: number): Promise<number[]> => {
  const { stdout } = await promisify(execFile)("ps", ["-A", "-o", "pid=,ppid="]);
  return stdout
    .split("\n")
    .map((line) => line.trim().split(/\s+/).map(Number))
    .flatMap(([child, parent]) => (child !== undefined && parent === pid ? [child] : []));
};

/** One that has ended meanwhile needs no signal. */
const sendSignal = (pid: number, signal: NodeJS.Signals): void => {
  try {
    process.kill(pid, signal);
  } catch (err) {
    if (Reflect.get(Object(err), "code") !== "ESRCH") throw err;
  }
};

/**
 * Starts a PostgreSQL of the embedded package on a free loopback port, with data that vanish at `stop`. It does not wait
 * for the disk unless `settings`, which go before our own, say so.
 */
export const startEmbeddedPostgres = async (
  settings: Readonly<Record<string, string>> = {},
): Promise<OwnedPostgres> => {
  // Whoever waits for the disk, to measure it, wants one, and nothing else than what servers have there.
  const waits = settings.fsync === "on";
  const all = { ...(waits ? {} : IN_PASSING), max_connections: "400", ...settings };
  const root = await scratchFolder("rootstock-postgres-", { inMemory: !waits });
  const dir = join(root, "data");
  const user = await postgresUser();
  const programs = await postgresPrograms(user, root);
  const password = systemRandom.bytes(18).toString("base64url");
  noteSecrets(password);
  await makeDataFolder(dir, { programs, user, superuser: USER, password, noSync: true });
  const port = await freePort(systemRandom);
  const args = serverArguments(dir, port, all);

  let server: ChildProcess | undefined;
  const end = async (signal: "SIGINT" | "SIGQUIT" = "SIGINT"): Promise<void> => {
    const ending = server;
    server = undefined;
    if (!ending || ending.exitCode !== null || ending.signalCode !== null) return;
    const gone = once(ending, "exit");
    ending.kill(signal);
    await gone;
  };
  const begin = async (): Promise<void> => {
    const log = logFile(`postgres-${port}`);
    const out = log === undefined ? "ignore" : openSync(log, "a");
    const child = spawn(programs.postgres, args, { ...user, cwd: root, stdio: ["ignore", out, out] });
    if (typeof out === "number") closeSync(out);
    server = child;
    let failure: unknown;
    child.once("error", (err) => {
      failure = err;
    });
    await eventually(() => {
      if (failure) throw failure;
      if (child.exitCode !== null) throw new Error(`PostgreSQL ended with exit code ${child.exitCode}`);
      const state = readServerState(dir);
      return state?.ready === true && state.pid === child.pid;
    }, 30_000);
  };
  const signalAll = async (signal: NodeJS.Signals): Promise<void> => {
    const pid = server?.pid;
    if (pid === undefined) throw new Error("the server does not run");
    // The postmaster first: stopped, it starts no more children meanwhile.
    process.kill(pid, signal);
    for (const child of await childrenOf(pid)) sendSignal(child, signal);
  };
  // A test run that ends without `stop` (an error in the set-up) must not leave a server behind.
  process.once("exit", () => server?.kill("SIGINT"));

  await begin();
  const url = `postgres://${USER}:${password}@127.0.0.1:${port}/postgres`;
  return {
    url,
    takeDown: () => end(),
    crash: () => end("SIGQUIT"),
    bringUp: begin,
    bringUpAsStandby: async () => {
      await writeFile(join(dir, "standby.signal"), "");
      await begin();
    },
    promote: async () => void (await databaseAt(url).query("select pg_promote()")),
    restart: async () => {
      await end();
      await begin();
    },
    freeze: () => signalAll("SIGSTOP"),
    thaw: () => signalAll("SIGCONT"),
    stop: async () => {
      if (server) await signalAll("SIGCONT");
      await end();
      await rm(root, { recursive: true, force: true });
    },
  };
};
