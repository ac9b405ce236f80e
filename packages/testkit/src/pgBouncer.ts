import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants } from "node:fs";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { postgresUser } from "@rootstock/embedded-postgres";
import { freePort, systemRandom } from "@rootstock/service";
import pg from "pg";
import { eventually } from "./eventually.ts";
import { recordOutput } from "./recordedLogs.ts";
import { startTransactionPooler, type TransactionPooler } from "./transactionPooler.ts";

/** A kind of pooler that this machine has. */
export interface PoolerKind {
  readonly name: string;
  /** Starts one before the database `url`, with so many server connections at most. */
  readonly start: (url: string, size: number) => Promise<TransactionPooler>;
}

/** Debian puts it where only root's PATH looks. */
const FOLDERS = [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"];

const isProgram = (path: string): boolean => {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
};

/** The poolers that a test can run with: PgBouncer where it is installed, and always the stand-in of this package. */
export const transactionPoolers = (): readonly PoolerKind[] => {
  const standIn = { name: "the stand-in", start: startTransactionPooler };
  const program = FOLDERS.map((folder) => join(folder, "pgbouncer")).find(isProgram);
  if (!program) return [standIn];
  const version = execFileSync(program, ["--version"], { encoding: "utf8" }).split("\n", 1)[0] ?? "";
  return [{ name: version, start: (url, size) => startPgBouncer(program, url, size) }, standIn];
};

const settings = (target: URL, port: number, dir: string, size: number): string =>
  [
    "[databases]",
    `* = host=${target.hostname} port=${target.port || 5432}`,
    "[pgbouncer]",
    "listen_addr = 127.0.0.1",
    `listen_port = ${port}`,
    "unix_socket_dir =",
    "pool_mode = transaction",
    `default_pool_size = ${size}`,
    "max_client_conn = 500",
    "auth_type = scram-sha-256",
    `auth_file = ${join(dir, "users")}`,
    // After a failed connection to the server it waits 15 s by default before it tries again: longer than any test.
    "server_login_retry = 1",
    "",
  ].join("\n");

/** Starts PgBouncer, as another user when we are root: it refuses to run as root. */
const startPgBouncer = async (program: string, url: string, size: number): Promise<TransactionPooler> => {
  const target = new URL(url);
  const user = await postgresUser();
  const dir = await mkdtemp(join(tmpdir(), "rootstock-pgbouncer-"));
  await chmod(dir, 0o755);
  const port = await freePort(systemRandom);
  const file = join(dir, "pgbouncer.ini");
  await writeFile(file, settings(target, port, dir, size));
  const quoted = [target.username, target.password].map((part) => `"${decodeURIComponent(part)}"`);
  await writeFile(join(dir, "users"), `${quoted.join(" ")}\n`);
  const pooled = new URL(url);
  pooled.hostname = "127.0.0.1";
  pooled.port = String(port);

  let running: ChildProcess | undefined;
  const begin = async (): Promise<void> => {
    const child = spawn(program, [file], { ...user, cwd: dir, stdio: ["ignore", "ignore", "pipe"] });
    running = child;
    recordOutput(child, "pgbouncer");
    const said: string[] = [];
    child.stderr?.on("data", (chunk: Buffer) => said.push(chunk.toString()));
    await eventually(async () => {
      if (child.exitCode !== null || child.signalCode !== null)
        throw new Error(`pgbouncer ended with ${child.exitCode}:\n${said.join("")}`);
      return answers(pooled.toString());
    });
    said.length = 0;
  };
  const end = async (): Promise<void> => {
    const ending = running;
    running = undefined;
    if (!ending || ending.exitCode !== null || ending.signalCode !== null) return;
    const gone = once(ending, "exit");
    ending.kill("SIGKILL");
    await gone;
  };
  // A test run that ends without `stop` must not leave it behind.
  process.once("exit", () => running?.kill("SIGKILL"));
  await begin();
  return {
    url: pooled.toString(),
    restart: async () => {
      await end();
      await begin();
    },
    stop: async () => {
      await end();
      await rm(dir, { recursive: true, force: true });
    },
  };
};

const answers = async (url: string): Promise<boolean> => {
  const client = new pg.Client({ connectionString: url });
  client.on("error", () => {});
  try {
    await client.connect();
    await client.query("select 1");
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => {});
  }
};
