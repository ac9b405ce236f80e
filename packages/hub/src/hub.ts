import type { HubError } from "@rootstock/protocol";
import { type Base, type Service, startStages, stopStages } from "@rootstock/service";
import { hubStatistics, LISTENS_AFTER_SECONDS, loadMigrations, migrate, schemaVersion } from "@rootstock/store";
import { type ActionDeps, deleteProjectAgents, finishers, Idempotency } from "./actions/index.ts";
import { type Credentials, clientAddress, watched } from "./auth/index.ts";
import { encodePosition } from "./bus/index.ts";
import {
  buildControl,
  buildDispatch,
  buildFoundation,
  buildStreams,
  type Control,
  type Dispatch,
  type Foundation,
  followRights,
  observe,
  type Streams,
  webSockets,
} from "./composition/index.ts";
import { type HubConfig, isLoopback } from "./config.ts";
import { CONTROL_DEFAULTS } from "./control/index.ts";
import { createApp, HttpServer, type InspectReply, toHubError } from "./http/index.ts";
import { Metrics } from "./metrics/index.ts";
import { hubRoutes, type Route, toReply, UPGRADE_ROUTES, type UpgradeRoute } from "./routes/index.ts";
import type { CalledByPeers } from "./sockets/index.ts";
import { SseHub } from "./sse/index.ts";
import { authResets, OVERDUE_SECONDS, replicaReaper, Sweeper, standardSweeps } from "./sweeps/index.ts";
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
  /** And every WebSocket. */
  readonly upgradeRoutes: readonly UpgradeRoute[] = Object.values(UPGRADE_ROUTES).flat();
  readonly #base: Base;
  readonly #config: HubConfig;
  readonly #inspect: InspectReply | undefined;
  readonly #foundation: Foundation;
  readonly #control: Control;
  readonly #dispatch: Dispatch;
  readonly #streams: Streams;
  readonly #sse: SseHub;
  readonly #calledByPeers: CalledByPeers;
  readonly #http: HttpServer;
  readonly #stages: readonly (readonly Service[])[];
  #serving = false;
  #knownSchema = 0;
  #started: Promise<void> | undefined;
  #stopped: Promise<void> | undefined;

  /** @param inspect for tests: see {@link InspectReply} */
  constructor(config: HubConfig, base: Base, inspect?: InspectReply) {
    this.#config = config;
    this.#inspect = inspect;
    this.#base = { ...base, log: base.log.child({ replica: config.name }) };
    const own = this.#base;
    this.#foundation = buildFoundation(config, own, this.metrics, () => this.#internalUrl());
    this.#control = buildControl(config, own, this.#foundation);
    this.#dispatch = buildDispatch(config, own, this.metrics, this.#foundation, this.#control);
    const toError = (err: unknown) => toHubError(err, own.log);
    this.#streams = buildStreams(config, own, this.#foundation, this.#control, toError);
    const { database, eventBus, signaller, coordination, membership } = this.#foundation;
    this.#sse = new SseHub(own, { database, bus: eventBus });
    const actions = this.#actions();
    const sweeper = new Sweeper(own, {
      database,
      coordination,
      sweeps: [
        replicaReaper(own, { database, coordination, signaller, membership }),
        ...standardSweeps({ ...config, ...own, database, signaller, agentConfigs: this.#foundation.agentConfigs }),
        authResets(actions),
      ],
    });
    this.routes = this.#routes(actions);
    ({ http: this.#http, calledByPeers: this.#calledByPeers } = this.#server(actions, toError));
    followRights(this.#foundation, this.#control, this.#streams, this.#sse);
    observe(this.metrics, this.#foundation, this.#control, this.#streams);
    this.#stages = [
      ...this.#foundation.stages,
      ...this.#streams.stages,
      ...this.#control.stages,
      [this.#sse],
      ...this.#dispatch.stages,
      [sweeper, this.#calledByPeers],
    ];
  }

  #actions(): ActionDeps {
    const { database, box, agentConfigs, signaller } = this.#foundation;
    const { dispatcher, courier } = this.#dispatch;
    const actions: ActionDeps = {
      base: this.#base,
      database,
      dispatcher,
      courier,
      idempotency: new Idempotency(this.#base, { database, box, finishers: () => finishing }),
      box,
      agentConfigs,
      changed: () => signaller.changed(),
      publicUrl: this.#config.publicUrl,
      softDeleteSeconds: this.#config.softDeleteSeconds,
    };
    const finishing = finishers(actions);
    return actions;
  }

  #routes(actions: ActionDeps): readonly Route[] {
    const { database, listener, coordination, membership, commandBus, eventBus, agentTokens, signingKeys, secrets } =
      this.#foundation;
    const { registry, heartbeats } = this.#control;
    const { reconciler } = this.#dispatch;
    const { db } = database;
    const knownSchema = () => this.#knownSchema;
    return hubRoutes({
      ...this.#base,
      ...this.#streams,
      openStreams: this.#foundation.openStreams,
      streamLimitMs: this.#config.terminalLimitSeconds * 1000,
      db,
      actions,
      changed: actions.changed,
      agentTokens,
      denials: this.#foundation.denials,
      maintenance: this.#foundation.maintenance,
      people: this.#foundation.people,
      linkedSignIns: this.#foundation.linkedSignIns,
      signIns: this.#foundation.signIns,
      sessions: this.#foundation.sessions,
      providers: this.#foundation.providers,
      webSignIn: this.#foundation.webSignIn,
      proxyLogin: this.#foundation.proxyLogin,
      developmentToken: this.#config.developmentToken,
      access: this.#foundation.access,
      accessTokens: this.#foundation.accessTokens,
      userTokens: this.#foundation.userTokens,
      loginCodes: this.#foundation.loginCodes,
      deviceLogins: this.#foundation.deviceLogins,
      signInWays: this.#foundation.signInWays,
      testLogin: this.#config.signIn.testLogin,
      signingKeys,
      transportToken: async () => this.#foundation.transportTokens?.current(),
      secrets,
      heartbeats,
      sse: this.#sse,
      traceLimits: {
        messageSeconds: this.#config.undeliveredMessageSeconds,
        softDeleteSeconds: this.#config.softDeleteSeconds,
        requestSeconds: CONTROL_DEFAULTS.requestLimitMs / 1000,
        listensAfterSeconds: LISTENS_AFTER_SECONDS,
        overdueSeconds: OVERDUE_SECONDS,
      },
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
      deleteAgents: (projectId, call) => deleteProjectAgents(actions, projectId, call),
    });
  }

  #server(actions: ActionDeps, toError: (err: unknown) => HubError) {
    const config = this.#config;
    const {
      authenticator,
      access,
      policyTimes,
      lastSeen,
      denials,
      limits,
      maintenance,
      membership,
      database,
      tracing,
      sessions,
    } = this.#foundation;
    const trusts = (address: string) => config.trustedProxies.has(address);
    const denied = (event: Parameters<typeof denials.record>[0]) => denials.record(event);
    const authenticate = watched({ denied, trusts, guard: limits }, async (credentials: Credentials) => {
      const principal = await authenticator.authenticate(credentials);
      if (principal.kind === "user") lastSeen.note(principal.id);
      const address = () => clientAddress(credentials.peer, credentials.headers.get("x-forwarded-for"), trusts);
      return policyTimes.watch(access.equip(principal, address));
    });
    const serving = () => this.#serving;
    const app = createApp(this.#base, {
      routes: this.routes,
      authenticate,
      sessions,
      maintenance,
      keyed: (call, handle) => actions.idempotency.answer(call, handle, toReply),
      publicUrl: config.publicUrl,
      limits,
      corsOrigins: config.corsOrigins,
      trustsPeer: trusts,
      denied,
      metrics: this.metrics,
      tracing,
      serving,
      draining: () => membership.draining(),
      databaseSilentForMs: () => database.silentForMs(),
      ...(this.#inspect && { inspect: this.#inspect }),
    });
    const { handlers, calledByPeers } = webSockets(config, this.#base, {
      foundation: this.#foundation,
      control: this.#control,
      streams: this.#streams,
      dispatch: this.#dispatch,
      metrics: this.metrics,
      authenticate,
      toError,
      serving,
    });
    const http = new HttpServer({
      host: config.host,
      port: config.port,
      app,
      upgrades: handlers,
      log: this.#base.log,
    });
    return { http, calledByPeers };
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
    return this.#foundation.membership.instanceId;
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
    const { registry } = this.#control;
    registry.stopAccepting();
    await this.#foundation.membership.drain();
    await clock.sleep(this.#config.drainSeconds * 1000);
    await registry.drain(RELEASE_SOCKETS_OVER_MS);
    // Streams never end by themselves: what listens is told to come back, elsewhere.
    await Promise.all([this.#sse.stop(), this.#streams.tending.stop(), this.#calledByPeers.stop()]);
    await this.#closeHttp();
    this.#dispatch.executor.stop();
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
}
