import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  makeDataFolder,
  postgresPrograms,
  postgresUser,
  readServerState,
  serverArguments,
} from "@rootstock/embedded-postgres";
import { eventually } from "./eventually.ts";

/** A PostgreSQL server that a test owns: it may be stopped and started again. */
export interface OwnedPostgres {
  readonly url: string;
  /** Ends the server and every connection at once; data stay. */
  takeDown(): Promise<void>;
  bringUp(): Promise<void>;
  /** One after the other. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

const USER = "postgres";

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() =>
        typeof address === "object" && address ? resolve(address.port) : reject(new Error("no port")),
      );
    });
  });

/**
 * Starts a PostgreSQL of the embedded package on a free loopback port, with data that vanish at `stop`. It does not wait
 * for the disk unless `settings`, which go before our own, say so.
 */
export const startEmbeddedPostgres = async (
  settings: Readonly<Record<string, string>> = {},
): Promise<OwnedPostgres> => {
  const root = await mkdtemp(join(tmpdir(), "rootstock-postgres-"));
  // The server runs as another user when we are root, and must reach its own folder.
  await chmod(root, 0o755);
  const dir = join(root, "data");
  const user = await postgresUser();
  const programs = await postgresPrograms(user, root);
  await makeDataFolder(dir, { programs, user, superuser: USER, password: USER, noSync: true });
  const port = await freePort();
  const args = serverArguments(dir, port, { fsync: "off", max_connections: "400", ...settings });

  let server: ChildProcess | undefined;
  const end = async (): Promise<void> => {
    const ending = server;
    server = undefined;
    if (!ending || ending.exitCode !== null || ending.signalCode !== null) return;
    const gone = once(ending, "exit");
    ending.kill("SIGINT");
    await gone;
  };
  const begin = async (): Promise<void> => {
    const child = spawn(programs.postgres, args, { ...user, cwd: root, stdio: "ignore" });
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
  // A test run that ends without `stop` (an error in the set-up) must not leave a server behind.
  process.once("exit", () => server?.kill("SIGINT"));

  await begin();
  return {
    url: `postgres://${USER}:${USER}@127.0.0.1:${port}/postgres`,
    takeDown: end,
    bringUp: begin,
    restart: async () => {
      await end();
      await begin();
    },
    stop: async () => {
      await end();
      await rm(root, { recursive: true, force: true });
    },
  };
};
