import { hostname } from "node:os";
import { type Base, type Service, startStages, stopStages } from "@rootstock/service";
import { migrate } from "@rootstock/store";
import { clientOf } from "../connection.ts";
import type { Env } from "../flags.ts";
import { childEnv } from "./childEnv.ts";
import type { DataDirectory, KeptSecrets } from "./dataDirectory.ts";
import type { Ledger } from "./ledger.ts";
import { LoadBalancer } from "./loadBalancer.ts";
import { choosePort } from "./ports.ts";
import { type EmbeddedPostgres, embeddedPostgres } from "./postgres.ts";
import { rootstockProcess } from "./rootstockProcess.ts";
import type { StartConfig } from "./startConfig.ts";
import type { ProcessDeps, ProcessNews, SupervisedProcess } from "./supervisedProcess.ts";
import { type Upstream, Upstreams } from "./upstreams.ts";

const LOOPBACK = "127.0.0.1";
const POOL_SIZE = 10;
/** A replica's pool, its two session connections, and one more while it migrates. */
const CONNECTIONS_PER_REPLICA = POOL_SIZE + 3;
/** For the person who looks into the database meanwhile. */
const SPARE_CONNECTIONS = 20;
/** The load balancer looks four times a second: a replica that leaves is out of its list in time. */
const DRAIN_SECONDS = 1;
const READY_TIMEOUT_MS = 60_000;

export interface ClusterDeps {
  readonly config: StartConfig;
  readonly data: DataDirectory;
  readonly secrets: KeptSecrets;
  readonly env: Env;
  readonly base: Base;
  readonly ledger: Ledger;
  readonly onNews: (news: ProcessNews) => void;
}

/** A replica of the running cluster, as it is shown. */
export interface ReplicaInfo {
  readonly name: string;
  readonly url: string;
  readonly pid: number | undefined;
}

/**
 * A whole cluster on this machine: PostgreSQL, replicas, the load balancer before them, a runtime broker behind it.
 * Started in this order and stopped in the reverse one, the database last.
 */
export class Cluster implements Service {
  readonly #deps: ClusterDeps;
  readonly #processDeps: ProcessDeps;
  #processes: SupervisedProcess[] = [];
  #replicas: { readonly process: SupervisedProcess; readonly upstream: Upstream }[] = [];
  #balancer: LoadBalancer | undefined;
  #stages: Service[][] = [];
  #starting: Promise<void> = Promise.resolve();

  constructor(deps: ClusterDeps) {
    this.#deps = deps;
    this.#processDeps = { base: deps.base, ledger: deps.ledger, onNews: deps.onNews };
  }

  /** The address for everybody. Throws before `start`. */
  url(): string {
    if (!this.#balancer) throw new Error("the cluster is not started");
    return `http://${LOOPBACK}:${this.#balancer.address().port}`;
  }

  replicas(): readonly ReplicaInfo[] {
    return this.#replicas.map(({ process, upstream }) => ({
      name: process.name,
      url: `http://${upstream.host}:${upstream.port}`,
      pid: process.pid,
    }));
  }

  /** Resolves when every replica is ready and the runtime broker runs. */
  start(): Promise<void> {
    this.#starting = this.#start();
    return this.#starting;
  }

  async #start(): Promise<void> {
    const { config, data, secrets, base } = this.#deps;
    const port = config.port === 0 ? await choosePort(0, base.random) : config.port;
    const postgres = await embeddedPostgres({
      data,
      password: secrets.databasePassword,
      maxConnections: config.replicas * CONNECTIONS_PER_REPLICA + SPARE_CONNECTIONS,
      preferredPort: port + config.replicas + 1,
      deps: this.#processDeps,
    });
    const upstreams = await this.#chooseUpstreams(port);
    const watch = new Upstreams({ upstreams, base });
    this.#balancer = new LoadBalancer({ host: LOOPBACK, port, upstreams: watch, base });
    const publicUrl = `http://${LOOPBACK}:${port}`;
    this.#replicas = upstreams.map((upstream) => ({ upstream, process: this.#replica(upstream, postgres, publicUrl) }));
    const replicas = this.#replicas.map((r) => r.process);
    const brokers = config.localRuntimeBroker ? [this.#runtimeBroker(publicUrl)] : [];
    this.#processes = [...brokers, ...replicas, postgres.process];
    this.#stages = [
      [postgres.process],
      [schema(postgres.url, base)],
      [...replicas, this.#balancer, watch],
      [allReady(watch, upstreams.length)],
      brokers,
    ];
    await startStages(this.#stages);
  }

  async stop(): Promise<void> {
    await stopStages(this.#stages);
    // A start that was under way may have brought up more meanwhile.
    await this.#starting.catch(() => {});
    await stopStages(this.#stages);
  }

  /** Ends every process at once. */
  kill(): void {
    for (const process of this.#processes) process.kill();
  }

  async #chooseUpstreams(port: number): Promise<Upstream[]> {
    const { config, base } = this.#deps;
    const upstreams: Upstream[] = [];
    for (let n = 1; n <= config.replicas; n += 1) {
      const taken = new Set([port, ...upstreams.map((u) => u.port)]);
      let chosen = await choosePort(port + n, base.random);
      while (taken.has(chosen)) chosen = await choosePort(0, base.random);
      upstreams.push({ name: `replica-${n}`, host: LOOPBACK, port: chosen });
    }
    return upstreams;
  }

  #replica(upstream: Upstream, postgres: EmbeddedPostgres, publicUrl: string): SupervisedProcess {
    const { config, data, secrets, env } = this.#deps;
    const settings = {
      DATABASE_URL: postgres.url,
      HOST: upstream.host,
      PORT: String(upstream.port),
      ROOTSTOCK_NAME: upstream.name,
      ROOTSTOCK_SECRET: secrets.secret,
      ROOTSTOCK_INTERNAL_URL: `http://${upstream.host}:${upstream.port}`,
      ROOTSTOCK_PUBLIC_URL: publicUrl,
      ROOTSTOCK_POOL_SIZE: String(POOL_SIZE),
      ROOTSTOCK_DRAIN_SECONDS: String(DRAIN_SECONDS),
      ROOTSTOCK_LOG_LEVEL: config.logLevel,
      SCION_DEV_TOKEN: secrets.devToken,
    };
    const { name } = upstream;
    return rootstockProcess({ name, command: "replica", data, env: () => childEnv(env, settings) }, this.#processDeps);
  }

  /**
   * The runtime broker joins anew at every start: whatever became of the database or of its credentials, the two fit
   * again. It keeps its id, and so its agents.
   */
  #runtimeBroker(publicUrl: string): SupervisedProcess {
    const { config, data, secrets, env, base } = this.#deps;
    const name = hostname();
    const settings = async () => {
      const hub = clientOf({ url: publicUrl, token: secrets.devToken }, base);
      const ticket = await hub.runtimeBrokers.register({ name, brokerId: secrets.runtimeBrokerId, autoProvide: true });
      return childEnv(env, {
        ROOTSTOCK_HUB_URL: publicUrl,
        ROOTSTOCK_JOIN_TOKEN: ticket.joinToken,
        ROOTSTOCK_RUNTIME_BROKER_ID: ticket.brokerId,
        ROOTSTOCK_RUNTIME_BROKER_NAME: name,
        ROOTSTOCK_RUNTIME_BROKER_STATE: data.runtimeBroker,
        ROOTSTOCK_LOG_LEVEL: config.logLevel,
      });
    };
    return rootstockProcess(
      { name: "runtime-broker", command: "runtime-broker", data, env: settings },
      this.#processDeps,
    );
  }
}

/** Migrations run here first: what is wrong with the schema is said once, and plainly. */
const schema = (url: string, base: Base): Service => ({
  start: async () => void (await migrate({ url, log: base.log })),
  stop: async () => {},
});

/** Holds the next stage back until every replica answers that it is ready. */
const allReady = (watch: Upstreams, count: number): Service => ({
  start: async () => {
    const limit = AbortSignal.timeout(READY_TIMEOUT_MS);
    await watch.until((states) => states.size === count && [...states.values()].every((s) => s === "ready"), limit);
    if (limit.aborted) throw new Error(`the replicas were not ready after ${READY_TIMEOUT_MS / 1000} s`);
  },
  stop: async () => {},
});
