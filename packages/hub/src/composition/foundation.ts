import { type Base, Breather, type Service } from "@rootstock/service";
import { type AuditEvent, Coordination, Database, Listener, Signaller } from "@rootstock/store";
import { Denials } from "../audit/index.ts";
import {
  AccessFacts,
  AccessTokens,
  AgentTokens,
  AssertionVerifier,
  Authenticator,
  BrowserSessions,
  DEVELOPMENT_USER,
  DeviceLogins,
  googleIssuer,
  LoginCodes,
  localIssuer,
  MaintenanceMode,
  PolicyTimes,
  ProxyLogin,
  ReplicaTokens,
  RuntimeBrokerSecrets,
  RuntimeBrokerSignatures,
  SignIns,
  type SignInWays,
  SigningKeys,
  TransportTokens,
  UserTokens,
} from "../auth/index.ts";
import { EventBus } from "../bus/index.ts";
import { CommandBus } from "../commands/index.ts";
import type { HubConfig } from "../config.ts";
import { OpenStreams, RateLimits } from "../limits/index.ts";
import type { Metrics } from "../metrics/index.ts";
import { Providers, WebSignIn } from "../oauth/index.ts";
import { LastSeen, LinkedSignIns, People, UserStandings } from "../people/index.ts";
import { Membership, Releases } from "../replicas/index.ts";
import { AgentConfigs, CONFIGS_SEALED_SINCE, ENVELOPES_SINCE, keyManagement, SecretBox } from "../secrets/index.ts";
import { NO_TRACING, OtlpTracing, type Tracing } from "../telemetry/index.ts";
import { VERSION } from "../version.ts";

/** So long, in milliseconds, does a signal wait at most for others to go with. */
const MAX_SIGNAL_PAUSE_MS = 5;

/** What everything else of a replica stands on: the database, its signals, who lives, and who is who. */
export interface Foundation {
  readonly database: Database;
  readonly signaller: Signaller;
  readonly listener: Listener;
  readonly coordination: Coordination;
  readonly membership: Membership;
  readonly commandBus: CommandBus;
  readonly eventBus: EventBus;
  readonly box: SecretBox;
  readonly releases: Releases;
  readonly agentConfigs: AgentConfigs;
  readonly agentTokens: AgentTokens;
  readonly signingKeys: SigningKeys;
  readonly replicaTokens: ReplicaTokens;
  /** Undefined: agents need none. */
  readonly transportTokens: TransportTokens | undefined;
  readonly secrets: RuntimeBrokerSecrets;
  readonly signatures: RuntimeBrokerSignatures;
  readonly authenticator: Authenticator;
  readonly denials: Denials;
  readonly limits: RateLimits;
  readonly openStreams: OpenStreams;
  readonly maintenance: MaintenanceMode;
  readonly people: People;
  readonly linkedSignIns: LinkedSignIns;
  readonly standings: UserStandings;
  readonly lastSeen: LastSeen;
  readonly access: AccessFacts;
  readonly policyTimes: PolicyTimes;
  readonly userTokens: UserTokens;
  readonly signIns: SignIns;
  readonly sessions: BrowserSessions;
  readonly providers: Providers;
  readonly webSignIn: WebSignIn;
  readonly proxyLogin: ProxyLogin;
  readonly accessTokens: AccessTokens;
  readonly loginCodes: LoginCodes;
  readonly deviceLogins: DeviceLogins;
  readonly signInWays: SignInWays;
  readonly tracing: Tracing;
  readonly stages: readonly (readonly Service[])[];
}

/** Builds the foundation. `internalUrl` is asked when the replica registers: a chosen port is known only then. */
export const buildFoundation = (
  config: HubConfig,
  base: Base,
  metrics: Metrics,
  internalUrl: () => string | null,
): Foundation => {
  const applicationName = `rootstock ${config.name}`.slice(0, 63);
  const directUrl = config.databaseDirectUrl;
  const database = new Database({
    url: config.databaseUrl,
    pooled: config.databaseUrl !== directUrl,
    poolSize: config.poolSize,
    applicationName,
    clock: base.clock,
    log: base.log,
  });
  const signaller = new Signaller({ database, ...base, breather: new Breather(base.clock, MAX_SIGNAL_PAUSE_MS) });
  const listener = new Listener(base, { directUrl, database, applicationName });
  const coordination = new Coordination(base, { directUrl, applicationName });
  const membership = new Membership(base, {
    database,
    coordination,
    name: config.name,
    get internalUrl() {
      return internalUrl();
    },
    version: VERSION,
  });
  const instance = { instanceId: membership.instanceId, name: config.name, serviceVersion: VERSION };
  const collected = config.spans && new OtlpTracing(base, { ...config.spans, ...instance });
  const commandBus = new CommandBus(base, { signaller, listener });
  const eventBus = new EventBus(base, { database, listener });

  const { secrets: rootSecrets } = config;
  const agentTokens = new AgentTokens(rootSecrets, base);
  const releases = new Releases(base, { database });
  const olderReplicas = () => releases.olderThan(ENVELOPES_SINCE);
  const keys = keyManagement(config, base.random);
  const box = new SecretBox({ secrets: rootSecrets, keys, clock: base.clock, random: base.random, olderReplicas });
  const agentConfigs = new AgentConfigs(base, {
    db: database.db,
    box,
    olderReplicas: () => releases.recentlyOlderThan(CONFIGS_SEALED_SINCE),
  });
  const signingKeys = new SigningKeys(rootSecrets);
  const replicaTokens = new ReplicaTokens({
    secrets: rootSecrets,
    signingKeys,
    instanceId: membership.instanceId,
    clock: base.clock,
    olderReplicas,
  });
  const transportTokens = transportTokensOf(config, base, signingKeys);
  const secrets = new RuntimeBrokerSecrets(box, base);
  const signatures = new RuntimeBrokerSignatures(database.db, secrets, base.clock);
  const limits = new RateLimits(base, {
    db: database.db,
    rules: config.rateRules,
    refused: (limit) => metrics.rateLimited.inc({ limit }),
  });
  const openStreams = new OpenStreams(base, {
    db: database.db,
    instanceId: membership.instanceId,
    most: config.rateRules.streams,
    refused: () => metrics.rateLimited.inc({ limit: "streams" }),
  });
  membership.onReregistered(() => openStreams.tellAnew());
  const denials = new Denials(base, { db: database.db, onUnrecorded: () => metrics.unrecordedDenials.inc() });
  const standings = new UserStandings(base.clock, database.db);
  const lastSeen = new LastSeen(base, database.db);
  const entry = {
    db: database.db,
    rules: config.signIn.admission,
    developer: DEVELOPMENT_USER.id,
    denied: (event: Omit<AuditEvent, "success">) => denials.record(event),
  };
  const people = new People(base, {
    ...entry,
    byEmail: config.signIn.linkByEmail,
    changed: () => signaller.changed(),
  });
  const linkedSignIns = new LinkedSignIns(base, {
    ...entry,
    issuers: config.signIn.issuers,
    changed: (userId) => {
      standings.forget(userId);
      signaller.changed();
    },
  });
  const maintenance = new MaintenanceMode(base, database.db);
  const access = new AccessFacts(base.clock, database.db);
  const policyTimes = new PolicyTimes(base.clock);
  const userTokens = new UserTokens(rootSecrets, base);
  const signIns = new SignIns(base, {
    db: database.db,
    tokens: userTokens,
    standings,
    changed: () => signaller.changed(),
  });
  const accessTokens = new AccessTokens(base, { db: database.db, standings });
  const sessions = new BrowserSessions(base, {
    db: database.db,
    secrets: rootSecrets,
    signIns,
    publicUrl: config.publicUrl,
  });
  const programs = { db: database.db, signIns, standings };
  const loginCodes = new LoginCodes(base, { ...programs, signingKeys });
  const deviceLogins = new DeviceLogins(base, programs);
  const { assertions, plainHeader } = config.signIn;
  const providers = new Providers(config.signIn.providers, { clock: base.clock, log: base.log, fetch });
  const webSignIn = new WebSignIn(base, { secrets: rootSecrets, providers });
  const signInWays: SignInWays = {
    providers: providers.all.map(({ name }) => name),
    otherwise: assertions.length > 0 || plainHeader !== undefined || config.developmentToken !== undefined,
  };
  const proxyLogin = new ProxyLogin({
    clock: base.clock,
    people,
    standings,
    verifiers: assertions.map((rules) => new AssertionVerifier({ rules, clock: base.clock, log: base.log, fetch })),
    plain: plainHeader,
  });
  const authenticator = new Authenticator({
    db: database.db,
    standings,
    proxyLogin,
    signIns,
    accessTokens,
    sessions,
    agentTokens,
    replicaTokens,
    signatures,
    developmentToken: config.developmentToken,
    scrapeToken: config.metricsToken,
  });

  membership.onLeft(({ wake, failed }) => {
    signaller.wake(wake);
    signaller.done(failed);
    signaller.changed();
  });

  return {
    database,
    signaller,
    listener,
    coordination,
    membership,
    commandBus,
    eventBus,
    box,
    releases,
    agentConfigs,
    agentTokens,
    signingKeys,
    replicaTokens,
    transportTokens,
    secrets,
    signatures,
    authenticator,
    denials,
    limits,
    openStreams,
    maintenance,
    people,
    linkedSignIns,
    standings,
    lastSeen,
    access,
    policyTimes,
    userTokens,
    signIns,
    sessions,
    providers,
    webSignIn,
    proxyLogin,
    accessTokens,
    loginCodes,
    deviceLogins,
    signInWays,
    tracing: collected ?? NO_TRACING,
    stages: [
      collected ? [database, collected] : [database],
      [signaller, limits, openStreams],
      [listener, coordination],
      [authenticator, maintenance, membership, releases, policyTimes],
      [eventBus, commandBus],
    ],
  };
};

const transportTokensOf = (
  { transport, publicUrl }: HubConfig,
  base: Base,
  signingKeys: SigningKeys,
): TransportTokens | undefined => {
  if (!transport) return undefined;
  const issuer =
    transport.issuer === "google"
      ? googleIssuer({ ...transport, fetch })
      : localIssuer({ ...base, ...transport, signingKeys, issuer: publicUrl ?? transport.audience });
  return new TransportTokens({ ...base, issuer, audience: transport.audience });
};
