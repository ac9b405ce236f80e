import type { Uuid } from "@rootstock/protocol";
import type { Base } from "@rootstock/service";
import { type ActionDeps, acceptInbound } from "../actions/index.ts";
import type { Denials } from "../audit/index.ts";
import type {
  AccessFacts,
  AccessTokens,
  AgentTokens,
  BrowserSessions,
  DeviceLogins,
  LoginCodes,
  ProxyLogin,
  RuntimeBrokerSecrets,
  SignIns,
  SignInWays,
  SigningKeys,
  TransportToken,
  UserTokens,
} from "../auth/index.ts";
import { ExactCounts } from "../limits/index.ts";
import type { Metrics } from "../metrics/index.ts";
import type { Providers, WebSignIn } from "../oauth/index.ts";
import type { LinkedSignIns, People } from "../people/index.ts";
import type { SseHub } from "../sse/index.ts";
import type { AgentStreams } from "../streams/index.ts";
import type { TraceLimits } from "../trace/index.ts";
import { accessExplainRoutes } from "./accessExplain.ts";
import { accessQuestionRoutes } from "./accessQuestions.ts";
import { accessTokenRoutes } from "./accessTokens.ts";
import { agentInsideRoutes, type InsideDeps } from "./agentInside.ts";
import { agentLifecycleRoutes } from "./agentLifecycle.ts";
import { agentLogRoutes, type LogDeps } from "./agentLogs.ts";
import { agentMessageRoutes } from "./agentMessages.ts";
import { agentTerminalRoutes } from "./agentTerminal.ts";
import { allowListRoutes } from "./allowList.ts";
import { auditRoutes } from "./audit.ts";
import { brokerOnboardingRoutes } from "./brokerOnboarding.ts";
import { brokerPluginRoutes } from "./brokerPlugins.ts";
import { eventRoutes } from "./events.ts";
import { type HealthDeps, healthRoutes } from "./health.ts";
import { type HeartbeatDeps, heartbeatRoutes } from "./heartbeat.ts";
import { identityRoutes } from "./identities.ts";
import { internalRoutes } from "./internal.ts";
import { inviteRoutes } from "./invites.ts";
import { jwksRoutes } from "./jwks.ts";
import { type MaintenanceDeps, maintenanceRoutes } from "./maintenance.ts";
import { metricsRoutes } from "./metrics.ts";
import { notConfiguredRoutes } from "./notConfigured.ts";
import { openApiRoutes } from "./openapi/index.ts";
import { programLoginRoutes } from "./programLogins.ts";
import { providerLoginRoutes } from "./providerLogins.ts";
import { resetAuthRoutes } from "./resetAuth.ts";
import { resourceRoutes } from "./resources.ts";
import type { Call, Route } from "./route.ts";
import { type RuntimeBrokerRouteDeps, runtimeBrokerRoutes } from "./runtimeBrokers.ts";
import { userSessionRoutes } from "./userSessions.ts";
import { userRoutes } from "./users.ts";
import { accountPages, pageRoutes, programPages, signInRoutes } from "./web/index.ts";

/** What the routes of a replica work with. */
export interface HubRouteDeps extends Base, InsideDeps, LogDeps, HealthDeps, HeartbeatDeps, RuntimeBrokerRouteDeps {
  readonly actions: ActionDeps;
  readonly agentTokens: AgentTokens;
  readonly signingKeys: SigningKeys;
  readonly secrets: RuntimeBrokerSecrets;
  readonly metrics: Metrics;
  readonly denials: Denials;
  readonly people: People;
  readonly linkedSignIns: LinkedSignIns;
  readonly signIns: SignIns;
  readonly sessions: BrowserSessions;
  readonly providers: Providers;
  readonly webSignIn: WebSignIn;
  readonly proxyLogin: ProxyLogin;
  readonly developmentToken: string | undefined;
  readonly userTokens: UserTokens;
  readonly loginCodes: LoginCodes;
  readonly deviceLogins: DeviceLogins;
  readonly signInWays: SignInWays;
  readonly testLogin: boolean;
  readonly transportToken: () => Promise<TransportToken | undefined>;
  readonly access: AccessFacts;
  readonly accessTokens: AccessTokens;
  readonly sse: SseHub;
  readonly streams: AgentStreams;
  readonly maintenance: MaintenanceDeps["maintenance"];
  readonly traceLimits: TraceLimits;
  /** Something waits for this runtime broker. */
  readonly wake: (runtimeBrokerId: Uuid) => void;
  readonly feedCursor: () => string;
  readonly deleteAgents: (projectId: Uuid, call: Pick<Call, "principal" | "traceparent">) => Promise<void>;
}

/** Every route of a replica. */
export const hubRoutes = (deps: HubRouteDeps): Route[] => {
  const routes = ownRoutes(deps);
  return [...routes, ...openApiRoutes(routes, deps.version)];
};

const ownRoutes = (deps: HubRouteDeps): Route[] => [
  ...healthRoutes(deps),
  ...metricsRoutes(deps.metrics),
  ...jwksRoutes(deps.signingKeys),
  ...internalRoutes(deps),
  ...brokerOnboardingRoutes({
    ...deps,
    denied: (event) => deps.denials.record(event),
    once: (call, work) => deps.actions.idempotency.once(call, work),
  }),
  ...heartbeatRoutes(deps),
  ...runtimeBrokerRoutes(deps),
  ...brokerPluginRoutes({ db: deps.db, acceptMessage: (call, message) => acceptInbound(deps.actions, call, message) }),
  ...agentLifecycleRoutes(deps.actions),
  ...agentMessageRoutes(deps.actions),
  ...agentInsideRoutes(deps),
  ...resetAuthRoutes(deps.actions),
  ...agentLogRoutes(deps),
  ...agentTerminalRoutes(deps),
  ...resourceRoutes({
    ...deps,
    agentConfigs: deps.actions.agentConfigs,
    exactCounts: new ExactCounts(deps),
    tokens: deps.agentTokens,
    once: (call, work) => deps.actions.idempotency.once(call, work),
    onAgentReady: ({ runtimeBrokerId }) => {
      if (runtimeBrokerId) deps.wake(runtimeBrokerId);
    },
  }),
  ...accessQuestionRoutes(deps),
  ...accessExplainRoutes(deps),
  ...eventRoutes(deps),
  ...auditRoutes(deps),
  ...allowListRoutes(deps),
  ...inviteRoutes(deps),
  ...maintenanceRoutes(deps),
  ...userSessionRoutes(deps),
  ...signInRoutes(deps),
  ...pageRoutes(deps),
  ...accountPages(deps),
  ...programPages(deps),
  ...accessTokenRoutes(deps),
  ...userRoutes(deps),
  ...identityRoutes(deps),
  ...programLoginRoutes(deps),
  ...providerLoginRoutes(deps),
  ...notConfiguredRoutes(),
];
