import { appendFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type Base, createLog, type Service } from "@rootstock/service";
import { writeConnection } from "../connection.ts";
import type { Terminal } from "../terminal.ts";
import { banner } from "./banner.ts";
import { Cluster } from "./cluster.ts";
import { type DataDirectory, dataDirectory, keptSecrets, prepareDataDirectory } from "./dataDirectory.ts";
import { endProcess, Ledger } from "./ledger.ts";
import { takeLock } from "./lock.ts";
import { requireFreePort } from "./ports.ts";
import type { StartConfig } from "./startConfig.ts";
import type { ProcessNews } from "./supervisedProcess.ts";

/** How long a leftover of a killed run gets to end by itself. */
const LEFTOVER_GRACE_MS = 10_000;

const describe = (news: ProcessNews): string =>
  news.kind === "ready"
    ? `${news.name} is back (pid ${news.pid})`
    : `${news.name} died (${news.how}); starting it again in ${news.restartMs} ms`;

/** Ends what a run that was killed without warning has left running: the database last, it serves the others. */
const endLeftovers = async (ledger: Ledger, base: Base, say: (text: string) => void): Promise<void> => {
  const leftovers = ledger.leftovers();
  if (leftovers.length === 0) return;
  say(`ending what an earlier run left behind: ${leftovers.map((l) => `${l.name} (pid ${l.pid})`).join(", ")}`);
  const isDatabase = (name: string) => name === "postgres";
  const end = (which: typeof leftovers, signal: NodeJS.Signals) =>
    Promise.all(which.map((leftover) => endProcess(base.clock, leftover, signal, LEFTOVER_GRACE_MS)));
  await end(
    leftovers.filter((l) => !isDatabase(l.name)),
    "SIGTERM",
  );
  await end(
    leftovers.filter((l) => isDatabase(l.name)),
    "SIGINT",
  );
};

/** `rootstock start` as a service: lock, leftovers of earlier runs, secrets, the cluster, and what people are told. */
export class LocalCluster implements Service {
  readonly #config: StartConfig;
  readonly #terminal: Terminal;
  readonly #data: DataDirectory;
  readonly #base: Base;
  #unlock: (() => void) | undefined;
  #cluster: Cluster | undefined;
  #serving = false;

  constructor(config: StartConfig, terminal: Terminal) {
    this.#config = config;
    this.#terminal = terminal;
    this.#data = dataDirectory(config.dataRoot);
    const file = join(this.#data.logs, "start.log");
    const destination = { write: (line: string) => appendFileSync(file, line, { mode: 0o600 }) };
    this.#base = { ...terminal.base, log: createLog({ level: config.logLevel, destination }) };
  }

  async start(): Promise<void> {
    const { env, err } = this.#terminal;
    const isRoot = process.getuid?.() === 0;
    prepareDataDirectory(this.#data, isRoot);
    this.#unlock = takeLock(this.#data.lock);
    const ledger = new Ledger(this.#data.ledger);
    await endLeftovers(ledger, this.#base, err);
    await requireFreePort(this.#config.port);
    const kept = keptSecrets(this.#data, this.#base.random);
    const secrets = { ...kept, devToken: this.#config.devToken ?? kept.devToken };
    const onNews = (news: ProcessNews) => void (this.#serving && err(describe(news)));
    this.#cluster = new Cluster({
      config: this.#config,
      data: this.#data,
      secrets,
      env,
      base: this.#base,
      ledger,
      onNews,
    });
    err("starting ...");
    await this.#cluster.start();
    const url = this.#cluster.url();
    writeConnection(this.#data.connection, { url, token: secrets.devToken });
    this.#serving = true;
    this.#terminal.out(
      banner({
        url,
        token: secrets.devToken,
        replicas: this.#cluster.replicas(),
        dataRoot: this.#data.root,
        runtimeBroker: this.#config.localRuntimeBroker,
      }),
    );
  }

  async stop(): Promise<void> {
    if (this.#serving) this.#terminal.err("\nstopping ... (Ctrl-C again: at once)");
    this.#serving = false;
    try {
      if (this.#unlock) rmSync(this.#data.connection, { force: true });
      await this.#cluster?.stop();
    } finally {
      this.#unlock?.();
      this.#unlock = undefined;
    }
  }

  /** Ends every process of the cluster at once. */
  kill(): void {
    this.#cluster?.kill();
    this.#unlock?.();
  }
}
