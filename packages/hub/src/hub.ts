import { type Base, type Service, startStages, stopStages } from "@rootstock/service";
import {
  Coordination,
  Database,
  hubStatistics,
  Listener,
  loadMigrations,
  migrate,
  Signaller,
  schemaVersion,
  targetsOfProject,
} from "@rootstock/store";
import { type ActionDeps, deleteAgent, finishers, Idempotency } from "./actions/index.ts";
import {
  AgentTokens,
  Authenticator,
  type Credentials,
  DEVELOPMENT_USER,
  ReplicaTokens,
  RuntimeBrokerSecrets,
  RuntimeBrokerSignatures,
  SecretBox,
} from "./auth/index.ts";
import { EventBus, encodePosition } from "./bus/index.ts";
import { CommandBus } from "./commands/index.ts";
import { type HubConfig, isLoopback } from "./config.ts";
import { CONTROL_DEFAULTS, ControlChannel, HeartbeatIntake, Ownership, Registry } from "./control/index.ts";
import {
  AgentLocks,
  agentTokenMinter,
  Courier,
  Dispatcher,
  Executor,
  keptValueReader,
  Reconciler,
} from "./dispatch/index.ts";
import { createApp, HttpServer, toHubError } from "./http/index.ts";
import { Metrics } from "./metrics/index.ts";
import { Membership } from "./replicas/index.ts";
import { hubRoutes, type Route, TerminalUpgrades, toReply } from "./routes/index.ts";
import { SseHub } from "./sse/index.ts";
import {
  answering,
  Detours,
  Mailbox,
  PeerLink,
  PeerStreams,
  PortTunnels,
  PostgresLink,
  Relay,
  Tending,
  Terminals,
} from "./streams/index.ts";
import { replicaReaper, Sweeper, standardSweeps } from "./sweeps/index.ts";
import { VERSION } from "./version.ts";

/** How long a stopping replica spreads the closing of its runtime brokers' sockets, in milliseconds. */
const RELEASE_SOCKETS_OVER_MS = 3_000;
/** How long requests under way may take to end once nothing new is taken, in milliseconds. */
const LAST_REQUESTS_MS = 10_000;

/**
 * One replica: builds every part from the configuration, in dependency order, and hands each what it needs. Replicas
 * are equal and keep nothing that the database does not know; several may live in one process.
 */
export class Hub implements Service {
  readonly metrics = new Metrics();
  /** Every route that it serves, as declared: for checks that must leave none out. */
  readonly routes: readonly Route[];
  readonly #base: Base;
  readonly #config: HubConfig;
  readonly #http: HttpServer;
  readonly #membership: Membership;
  readonly #registry: Registry;
  readonly #executor: Executor;
  readonly #sse: SseHub;
  readonly #streams: Tending;
  readonly #stages: readonly (readonly Service[])[];
  #serving = false;
  #knownSchema = 0;
  #started: Promise<void> | undefined;
  #stopped: Promise<void> | undefined;

  constructor(config: HubConfig, base: Base) {
    this.#config = config;
    this.#base = { ...base, log: base.log.child({ replica: config.name }) };
    const own = this.#base;
    const applicationName = `rootstock ${config.name}`.slice(0, 63);

    const database = new Database({
      url: config.databaseUrl,
      pooled: config.databaseUrl !== config.databaseDirectUrl,
      poolSize: config.poolSize,
      applicationName,
      log: own.log,
    });
    const { db } = database;
    const directUrl = config.databaseDirectUrl;
    const signaller = new Signaller({ database, log: own.log });
    const listener = new Listener(own, { directUrl, database, applicationName });
    const coordination = new Coordination(own, { directUrl, applicationName });
    const internalUrl = () => this.#internalUrl();
    const knownSchema = () => this.#knownSchema;
    const membership = new Membership(own, {
      database,
      coordination,
      name: config.name,
      // Read when the row is written: a port chosen by the system is known only then.
      get internalUrl() {
        return internalUrl();
      },
      version: VERSION,
    });
    const commandBus = new CommandBus(own, { signaller, listener });
    const eventBus = new EventBus(own, { database, listener });
    const changed = () => signaller.changed();

    const box = new SecretBox(config.secret, own.random);
    const agentTokens = new AgentTokens(config.secret, own);
    const replicaTokens = new ReplicaTokens(config.secret, membership.instanceId, own);
    const secrets = new RuntimeBrokerSecrets(box, own);
    const signatures = new RuntimeBrokerSignatures(db, secrets, own.clock);
    const authenticator = new Authenticator({
      db,
      agentTokens,
      replicaTokens,
      signatures,
      developmentToken: config.developmentToken,
      scrapeToken: config.metricsToken,
    });

    const ownership = new Ownership(database, membership, signaller, own.log);
    const registry = new Registry(own, ownership, CONTROL_DEFAULTS, async (id) =>
      (await secrets.of(db, id)).map((s) => s.key),
    );
    const controlChannel = new ControlChannel(own, {
      registry,
      ownership,
      database,
      signatures,
      options: CONTROL_DEFAULTS,
    });
    const heartbeats = new HeartbeatIntake(own, database, signaller);
    const sse = new SseHub(own, { database, bus: eventBus });

    const locks = new AgentLocks();
    const mintAgentToken = agentTokenMinter(agentTokens, { development: config.developmentToken !== undefined });
    const executor = new Executor(own, {
      db,
      database,
      clock: own.clock,
      random: own.random,
      metrics: this.metrics,
      instanceId: membership.instanceId,
      mintAgentToken,
      keptValues: keptValueReader(db, box),
      changed,
    });
    const shared = { database, registry, membership, commandBus, locks, metrics: this.metrics, changed };
    const dispatcher = new Dispatcher(own, { ...shared, eventBus, executor, wake: (id) => reconciler.wake([id]) });
    const courier: Courier = new Courier(own, { ...shared, reconciler: () => reconciler });
    const reconciler = new Reconciler(own, {
      ...shared,
      executor,
      announceMessage: (outcome) => courier.announce(outcome),
    });
    const sweeper = new Sweeper(own, {
      database,
      coordination,
      sweeps: [
        replicaReaper(own, { database, coordination, signaller, instanceId: membership.instanceId }),
        ...standardSweeps({ ...config, database, signaller }),
      ],
    });
    const streams = new Tending(own);
    const toError = (err: unknown) => toHubError(err, own.log);
    const mailbox = new Mailbox(own, { db, signals: commandBus, instanceId: membership.instanceId });
    const throughDatabase = new PostgresLink(own, {
      mailbox,
      tending: streams,
      registry,
      serve: (request) => answering(relay.serve(request), toError),
    });
    const ways = {
      detour: config.streamRelay === "peer" ? undefined : throughDatabase,
      detours: new Detours(own.clock),
    };
    const direct = config.streamRelay !== "postgres";
    const relay: Relay = new Relay(own, { ...ways, db, registry, tokens: replicaTokens, direct });
    const terminals = new Terminals(own, {
      ...ways,
      db,
      registry,
      direct: direct ? new PeerLink(own, { tokens: replicaTokens, tending: streams }) : undefined,
    });
    const actions: ActionDeps = {
      base: own,
      database,
      dispatcher,
      courier,
      idempotency: new Idempotency(own, { database, box, finishers: () => finishing }),
      box,
      changed,
      softDeleteSeconds: config.softDeleteSeconds,
    };
    const finishing = finishers(actions);

    this.routes = hubRoutes({
      ...own,
      db,
      actions,
      changed,
      relay,
      terminals,
      mintAgentToken,
      agentTokens,
      secrets,
      heartbeats,
      sse,
      feedCursor: () => encodePosition(eventBus.position()),
      forget: (id) => registry.forget(id),
      metrics: this.metrics,
      version: VERSION,
      statistics: () => hubStatistics(db),
      schema: () => schemaVersion(db),
      get knownSchema() {
        return knownSchema();
      },
      signals: () => listener.state(),
      coordination: () => ({ held: coordination.held(), pooled: coordination.pooled() }),
      draining: () => membership.draining(),
      wake: (id) => {
        reconciler.wake([id]);
        if (!registry.get(id)) commandBus.wake([id]);
      },
      deleteAgents: (projectId) => this.#deleteAgents(actions, projectId),
    });
    const app = createApp(own, {
      routes: this.routes,
      authenticate: (credentials) => authenticator.authenticate(credentials),
      repeat: async (call) => {
        const answer = await actions.idempotency.repeat(call);
        return answer && toReply(answer);
      },
      publicUrl: config.publicUrl,
      trustsPeer: (address) => config.trustedProxies.includes(address.replace(/^::ffff:/, "")),
      metrics: this.metrics,
      serving: () => this.#serving,
      draining: () => membership.draining(),
    });
    const upgrades = {
      tending: streams,
      authenticate: (credentials: Credentials) => authenticator.authenticate(credentials),
      toError,
    };
    const terminalUpgrades = new TerminalUpgrades(own, {
      ...upgrades,
      db,
      terminals,
      serving: () => this.#serving,
      idleMs: config.terminalIdleSeconds * 1000,
      limitMs: config.terminalLimitSeconds * 1000,
    });
    this.#http = new HttpServer({
      host: config.host,
      port: config.port,
      app,
      upgrades: [
        controlChannel,
        new PeerStreams(own, { ...upgrades, registry }),
        terminalUpgrades,
        new PortTunnels(own, upgrades),
      ],
      log: own.log,
    });
    this.#membership = membership;
    this.#registry = registry;
    this.#executor = executor;
    this.#sse = sse;
    this.#streams = streams;

    commandBus.onLookAtEverything(() => void registry.poll());
    membership.onSuspended(() => registry.suspend());
    membership.onReregistered(() => void registry.poll());
    membership.onLeft(({ wake, failed }) => {
      signaller.wake(wake);
      signaller.done(failed);
      signaller.changed();
    });
    coordination.onChange((held) => {
      if (held) registry.resume();
    });
    this.metrics.gauge(
      "rootstock_streams",
      "Terminals open here, those for other replicas included.",
      () => streams.size,
    );
    this.#observe(database, listener, eventBus, registry);

    this.#stages = [
      [database],
      [signaller],
      [listener, coordination],
      [authenticator, membership],
      [eventBus, commandBus],
      [mailbox],
      [throughDatabase],
      [registry, heartbeats, sse, streams],
      [dispatcher, courier, reconciler],
      [sweeper],
    ];
  }

  /** Migrates if asked to, and serves. Fails on a taken port, an unreachable database or an incompatible schema. */
  start(): Promise<void> {
    this.#started ??= this.#start();
    return this.#started;
  }

  /**
   * Drains and stops (design section 9): not ready, but answering, until load balancers have noticed; then the runtime
   * brokers are sent elsewhere, the requests under way end, and the parts stop in reverse order.
   */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  /** Where it listens, once started. */
  address(): { readonly host: string; readonly port: number } {
    return this.#http.address();
  }

  /** This replica as others know it; new at each boot. */
  get instanceId(): string {
    return this.#membership.instanceId;
  }

  async #start(): Promise<void> {
    const { config, log } = { config: this.#config, log: this.#base.log };
    await this.#http.start();
    try {
      this.#knownSchema = (await loadMigrations()).length;
      if (config.migrate) await migrate({ url: config.databaseDirectUrl, log });
      await startStages(this.#stages);
    } catch (err) {
      await this.#closeHttp();
      throw err;
    }
    this.#serving = true;
    log.info({ ...this.address(), instanceId: this.instanceId, version: VERSION }, "replica serving");
  }

  async #stop(): Promise<void> {
    if (!this.#started) return;
    await this.#started.catch(() => {});
    const { log, clock } = this.#base;
    log.info({}, "replica draining");
    this.#registry.stopAccepting();
    this.#registry.stopAccepting();
    await this.#membership.drain();
    await clock.sleep(this.#config.drainSeconds * 1000);
    await this.#registry.drain(RELEASE_SOCKETS_OVER_MS);
    // Streams never end by themselves: what listens is told to come back, elsewhere.
    await Promise.all([this.#sse.stop(), this.#streams.stop()]);
    await this.#closeHttp();
    this.#executor.stop();
    await stopStages(this.#stages);
    log.info({}, "replica stopped");
  }

  async #closeHttp(): Promise<void> {
    const over = new AbortController();
    const forced = this.#base.clock.sleep(LAST_REQUESTS_MS, over.signal).then(() => this.#http.closeAll());
    await this.#http.stop();
    over.abort();
    await forced;
  }

  #internalUrl(): string | null {
    const { internalUrl, host } = this.#config;
    if (internalUrl) return internalUrl;
    if (!isLoopback(host)) return null;
    return `http://${host.includes(":") ? `[${host}]` : host}:${this.address().port}`;
  }

  /** Ends every agent of a project at its runtime broker, as far as it can be reached. */
  async #deleteAgents(actions: ActionDeps, projectId: string): Promise<void> {
    const call = {
      principal: DEVELOPMENT_USER,
      headers: new Headers(),
      method: "DELETE",
      path: "",
      rawBody: Buffer.alloc(0),
      origin: "",
    };
    for (const target of await targetsOfProject(actions.database.db, projectId)) {
      await deleteAgent(actions, call, target, { deleteFiles: true, removeBranch: true, force: true }).catch(
        (err: unknown) =>
          this.#base.log.warn({ err, agentId: target.agent.id }, "agent of a deleted project left behind"),
      );
    }
  }

  #observe(database: Database, listener: Listener, eventBus: EventBus, registry: Registry): void {
    const { metrics } = this;
    metrics.gauge("rootstock_pool_connections", "Open database connections.", () => database.stats().total);
    metrics.gauge("rootstock_pool_idle", "Idle database connections.", () => database.stats().idle);
    metrics.gauge(
      "rootstock_pool_waiting",
      "Callers that wait for a database connection.",
      () => database.stats().waiting,
    );
    metrics.gauge("rootstock_signals_degraded", "1 while signals do not come through and polling replaces them.", () =>
      listener.state().healthy ? 0 : 1,
    );
    metrics.gauge(
      "rootstock_signal_round_trip_seconds",
      "How long the last signal to itself took.",
      () => (listener.state().roundTripMs ?? 0) / 1000,
    );
    metrics.gauge(
      "rootstock_reader_lag_seconds",
      "How old the oldest change of the last read was.",
      () => eventBus.stats().lagMs / 1000,
    );
    metrics.gauge(
      "rootstock_reader_xmin_age",
      "Transactions between the oldest open one and the newest.",
      () => eventBus.stats().xminAge,
    );
    metrics.gauge("rootstock_runtime_broker_sockets", "Sockets of runtime brokers held here.", () => registry.size);
  }
}
