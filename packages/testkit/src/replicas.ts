import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Hub, loadHubConfig } from "@rootstock/hub";
import { createLog, type Log, silentLog, systemClock, systemRandom } from "@rootstock/service";
import { compileCache } from "./compileCache.ts";
import { checkedReplies } from "./replyChecks.ts";
import { noteSecretsOfEnvironment, recordLog } from "./runRecord.ts";

/** The shared secret and the development token of test replicas. */
export const TEST_SECRET = "a shared secret of at least 32 bytes";
export const TEST_TOKEN = `scion_dev_${"ab".repeat(32)}`;

/** A replica that a test talks to over HTTP, in this process or in one of its own. */
export interface Replica {
  readonly name: string;
  readonly url: string;
  /** Stops it as SIGTERM does. */
  stop(): Promise<void>;
}

/** A replica in this process, with its parts at hand. */
export interface InProcessReplica extends Replica {
  readonly hub: Hub;
}

/** A replica in a process of its own, which can be killed and paused. */
export interface ReplicaProcess extends Replica {
  readonly pid: number;
  signal(signal: NodeJS.Signals): void;
  /** Resolves with the exit code, or the signal's name. */
  readonly exited: Promise<number | string>;
  /** Standard output and error so far. */
  output(): string;
}

export interface ReplicaOptions {
  readonly databaseUrl: string;
  readonly directUrl?: string;
  readonly name?: string;
  readonly env?: Readonly<Record<string, string>>;
}

const environment = (options: ReplicaOptions): Record<string, string> => ({
  DATABASE_URL: options.databaseUrl,
  ...(options.directUrl && { DATABASE_DIRECT_URL: options.directUrl }),
  HOST: "127.0.0.1",
  PORT: "0",
  ROOTSTOCK_SECRET: TEST_SECRET,
  SCION_DEV_TOKEN: TEST_TOKEN,
  ROOTSTOCK_NAME: options.name ?? "replica",
  ROOTSTOCK_DRAIN_SECONDS: "0",
  ...options.env,
});

/** Starts a replica in this process. */
export const startReplica = async (options: ReplicaOptions): Promise<InProcessReplica> => {
  const env = environment(options);
  noteSecretsOfEnvironment(env);
  const config = loadHubConfig(env);
  const record = recordLog(config.name);
  const hub = new Hub(config, { clock: systemClock, random: systemRandom, log: logOf(record) }, checkedReplies());
  await hub.start();
  const { host, port } = hub.address();
  const stop = async () => {
    await hub.stop();
    await record?.end();
  };
  return { name: config.name, hub, url: `http://${host}:${port}`, stop };
};

/** `TEST_LOG_LEVEL` shows the lines; else they are kept for the end of the run, at the level that tells most. */
const logOf = (record: ReturnType<typeof recordLog>): Log => {
  const level = process.env.TEST_LOG_LEVEL;
  if (level === "debug" || level === "info") return createLog({ level });
  return record ? createLog({ level: "trace", destination: record }) : silentLog();
};

const CHECKOUT = fileURLToPath(new URL("../../..", import.meta.url));

export interface ReplicaProcessOptions extends ReplicaOptions {
  /** The folder whose `packages/` it runs; this checkout by default. */
  readonly code?: string;
  /** A module that is loaded before the replica's own. */
  readonly preload?: string;
}

/** Starts `rootstock replica` in a process of its own and waits until it listens. */
export const startReplicaProcess = async (options: ReplicaProcessOptions): Promise<ReplicaProcess> => {
  const command = join(options.code ?? CHECKOUT, "packages/cli/bin/rootstock.js");
  const record = recordLog(options.name ?? "replica");
  const env = { ...(record && { ROOTSTOCK_LOG_LEVEL: "trace" }), ...environment(options) };
  noteSecretsOfEnvironment(env);
  const preload = options.preload === undefined ? [] : ["--import", pathToFileURL(options.preload).toString()];
  const child = spawn(process.execPath, [...preload, command, "replica"], {
    env: { PATH: process.env.PATH, ...compileCache, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const lines: string[] = [];
  const exited = new Promise<number | string>((resolve) => {
    child.once("exit", (code, signal) => resolve(code ?? signal ?? "unknown"));
  });
  child.once("close", () => void record?.end());
  const port = await listening(child, lines, exited, (line) => record?.write(line));
  const { pid } = child;
  if (pid === undefined) throw new Error("the replica process has no id");
  return {
    name: options.name ?? "replica",
    url: `http://127.0.0.1:${port}`,
    pid,
    exited,
    signal: (signal) => void child.kill(signal),
    output: () => lines.join("\n"),
    stop: async () => {
      child.kill("SIGCONT");
      child.kill("SIGTERM");
      await exited;
    },
  };
};

const listening = (
  child: ChildProcess,
  lines: string[],
  exited: Promise<number | string>,
  keep: (line: string) => void,
): Promise<number> =>
  new Promise((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      if (!stream) continue;
      createInterface({ input: stream }).on("line", (line) => {
        lines.push(line);
        keep(line);
        if (!line.includes('"listening"')) return;
        const port: unknown = JSON.parse(line).port;
        if (typeof port === "number") resolve(port);
      });
    }
    void exited.then((how) => reject(new Error(`the replica ended (${how}) before it listened:\n${lines.join("\n")}`)));
  });
