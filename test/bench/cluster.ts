import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { silentLog } from "@rootstock/service";
import { migrate } from "@rootstock/store";
import {
  api,
  eventually,
  joinRuntimeBroker,
  type SimulatedCredentials,
  startEmbeddedPostgres,
  TEST_SECRET,
  TEST_TOKEN,
} from "@rootstock/testkit";
import pg from "pg";
import { cpuMs, cpuOfFamilyMs, parentOf } from "./processUsage.ts";

/** A database of its own on a server of its own, unless TEST_DATABASE_URL names one. */
export interface BenchDatabase {
  readonly url: string;
  /** Version and the settings that decide how much a commit costs. */
  readonly version: string;
  readonly settings: string;
  query<T extends pg.QueryResultRow>(sql: string, values?: readonly unknown[]): Promise<T[]>;
  /** CPU time of the whole server so far, in milliseconds; 0 for a server on another machine. */
  cpuMs(): number;
  drop(): Promise<void>;
}

/** A PostgreSQL with a normal server's settings, started for this run, or the one in TEST_DATABASE_URL. */
export interface BenchServer {
  database(): Promise<BenchDatabase>;
  /** Ends the server with all connections and starts it again; undefined for a server that is not ours. */
  readonly restart: (() => Promise<void>) | undefined;
  /** What the statements so far cost; the server must have loaded pg_stat_statements. */
  statements(): Promise<string>;
  stop(): Promise<void>;
}

export const startServer = async (settings: Readonly<Record<string, string>>): Promise<BenchServer> => {
  const given = process.env.TEST_DATABASE_URL;
  const own = given ? undefined : await startEmbeddedPostgres({ fsync: "on", ...settings });
  const serverUrl = given ?? own?.url ?? "";
  return {
    database: () => createDatabase(serverUrl),
    restart: own && (() => own.restart()),
    statements: () => readStatements(serverUrl),
    stop: async () => own?.stop(),
  };
};

const readStatements = async (serverUrl: string): Promise<string> => {
  const client = new pg.Client({ connectionString: serverUrl });
  client.on("error", () => {});
  await client.connect();
  await client.query("create extension if not exists pg_stat_statements");
  const { rows } = await client.query<Readonly<Record<string, string>>>(
    `select calls, round(total_plan_time) as plan_ms, round(total_exec_time) as exec_ms,
            round((total_plan_time + total_exec_time)::numeric / greatest(calls, 1), 3) as mean_ms,
            left(regexp_replace(query, '\\s+', ' ', 'g'), 110) as query
       from pg_stat_statements order by total_plan_time + total_exec_time desc limit 25`,
  );
  await client.end();
  return rows.map((r) => Object.values(r).join("\t")).join("\n");
};

/** Runs one statement of an administrator. Errors of the connection while nothing is asked are nobody's. */
const administer = async (serverUrl: string, statement: string): Promise<void> => {
  const admin = new pg.Client({ connectionString: serverUrl });
  admin.on("error", () => {});
  await admin.connect();
  await admin.query(statement);
  await admin.end();
};

const createDatabase = async (serverUrl: string): Promise<BenchDatabase> => {
  const name = `rootstock_bench_${randomUUID().replaceAll("-", "")}`;
  await administer(serverUrl, `create database ${name}`);
  const url = Object.assign(new URL(serverUrl), { pathname: `/${name}` }).toString();
  await migrate({ url, log: silentLog() });
  const client = new pg.Client({ connectionString: url });
  // A server that ends before its clients is what a failed benchmark leaves; its own error is to be seen.
  client.on("error", () => {});
  await client.connect();
  const { rows } = await client.query(
    `select pg_backend_pid() as pid, current_setting('server_version') as version,
            concat_ws(', ', 'fsync ' || current_setting('fsync'),
              'synchronous_commit ' || current_setting('synchronous_commit'),
              'shared_buffers ' || current_setting('shared_buffers')) as settings`,
  );
  const postmaster = parentOf(rows[0].pid);
  return {
    url,
    version: rows[0].version,
    settings: rows[0].settings,
    query: async (sql, values) => (await client.query(sql, values ? [...values] : undefined)).rows,
    cpuMs: () => (postmaster > 1 ? cpuOfFamilyMs(postmaster) : 0),
    drop: async () => {
      await client.end().catch(() => {});
      await administer(serverUrl, `drop database ${name} with (force)`);
    },
  };
};

/** A replica in a process of its own, as in production: its log goes to a file. */
export interface ReplicaProcess {
  readonly url: string;
  readonly pid: number;
  /** Ends it without a word. */
  kill(): Promise<void>;
  /** Has it stand still, or go on. */
  signal(signal: "SIGSTOP" | "SIGCONT"): void;
  /** Stops it as SIGTERM does. */
  stop(): Promise<void>;
}

export interface ReplicaOptions {
  readonly databaseUrl: string;
  /** 0, the default, lets the system choose. */
  readonly port?: number;
  readonly name: string;
  /** Options of Node, for profiles. */
  readonly nodeOptions?: string;
  readonly env?: Readonly<Record<string, string>>;
}

const COMMAND = fileURLToPath(new URL("../../packages/cli/bin/rootstock.js", import.meta.url));

export const startReplica = async (options: ReplicaOptions): Promise<ReplicaProcess> => {
  const folder = mkdtempSync(join(tmpdir(), "rootstock-bench-"));
  const logFile = join(folder, "log");
  const log = openSync(logFile, "w");
  const child: ChildProcess = spawn(process.execPath, [COMMAND, "replica"], {
    stdio: ["ignore", log, log],
    env: {
      PATH: process.env.PATH,
      DATABASE_URL: options.databaseUrl,
      HOST: "127.0.0.1",
      PORT: String(options.port ?? 0),
      ROOTSTOCK_SECRET: TEST_SECRET,
      SCION_DEV_TOKEN: TEST_TOKEN,
      ROOTSTOCK_NAME: options.name,
      ROOTSTOCK_DRAIN_SECONDS: "0",
      ...(options.nodeOptions && { NODE_OPTIONS: options.nodeOptions }),
      ...options.env,
    },
  });
  closeSync(log);
  const { pid } = child;
  if (pid === undefined) throw new Error("the replica process has no id");
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const killAtExit = () => child.kill("SIGKILL");
  process.once("exit", killAtExit);
  const end = async (signal: NodeJS.Signals) => {
    child.kill(signal);
    await gone;
    process.off("exit", killAtExit);
    rmSync(folder, { recursive: true, force: true });
  };
  const port = await eventually(() => {
    const text = readFileSync(logFile, "utf8");
    if (child.exitCode !== null) throw new Error(`the replica ended with ${child.exitCode}:\n${text}`);
    const line = text.split("\n").find((l) => l.includes('"listening"'));
    return line !== undefined && Number(JSON.parse(line).port);
  }, 30_000);
  return {
    url: `http://127.0.0.1:${port}`,
    pid,
    kill: () => end("SIGKILL"),
    signal: (signal) => void child.kill(signal),
    stop: () => end("SIGTERM"),
  };
};

/** CPU time of these replicas and their database, in milliseconds. */
export const cpuOf = (replicas: readonly ReplicaProcess[], database: BenchDatabase): number =>
  replicas.reduce((sum, r) => sum + cpuMs(r.pid), database.cpuMs());

/** Registers runtime brokers and joins with them, a few at a time. */
export const joinMany = async (replica: ReplicaProcess, count: number): Promise<SimulatedCredentials[]> => {
  const joined: SimulatedCredentials[] = [];
  let next = 0;
  const lane = async () => {
    while (next < count) {
      const name = `bench-${next}`;
      next += 1;
      joined.push(await joinRuntimeBroker({ hubUrl: replica.url, token: TEST_TOKEN, name }));
    }
  };
  await Promise.all(Array.from({ length: 8 }, lane));
  return joined;
};

export interface BenchAgent {
  readonly id: string;
  readonly slug: string;
  readonly runtimeBrokerId: string;
}

/** Running agents that take messages, `each` of them on every runtime broker, in one project. */
export const createAgents = async (
  database: BenchDatabase,
  replica: ReplicaProcess,
  runtimeBrokerIds: readonly string[],
  each: number,
): Promise<BenchAgent[]> => {
  const project = await api(replica, "POST", "/api/v1/projects", { name: `bench ${randomUUID()}` });
  const projectId = project.text("id");
  return database.query<BenchAgent & pg.QueryResultRow>(
    `insert into agents (id, project_id, slug, name, runtime_broker_id, phase, activity, running_since, ready_at)
     select gen_random_uuid(), $1, 'a-' || row_number() over (), 'a-' || row_number() over (), rb, 'running', 'working',
            now(), now()
       from unnest($2::uuid[]) as rb, generate_series(1, $3)
     returning id, slug, runtime_broker_id as "runtimeBrokerId"`,
    [projectId, runtimeBrokerIds, each],
  );
};

/** The path of a message to an agent. */
export const messagePath = (agent: BenchAgent): string => `/api/v1/agents/${agent.id}/message`;

/** The body of a message to an agent. */
export const messageBody = (text: string): string => JSON.stringify({ structured_message: { msg: text } });
