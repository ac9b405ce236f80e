import type { Uuid } from "@rootstock/protocol";
import type { Base } from "@rootstock/service";
import type { Database } from "@rootstock/store";
import type { ActionDeps } from "../actions/index.ts";
import type { AgentTokens, RuntimeBrokerSecrets } from "../auth/index.ts";
import type { Metrics } from "../metrics/index.ts";
import { agentInsideRoutes, type InsideDeps } from "./agentInside.ts";
import { agentLifecycleRoutes } from "./agentLifecycle.ts";
import { agentMessageRoutes } from "./agentMessages.ts";
import { brokerOnboardingRoutes } from "./brokerOnboarding.ts";
import { brokerPluginRoutes, type PluginDeps } from "./brokerPlugins.ts";
import { type HealthDeps, healthRoutes } from "./health.ts";
import { type HeartbeatDeps, heartbeatRoutes } from "./heartbeat.ts";
import { internalRoutes } from "./internal.ts";
import { metricsRoutes } from "./metrics.ts";
import { notConfiguredRoutes } from "./notConfigured.ts";
import { resourceRoutes } from "./resources.ts";
import type { Route } from "./route.ts";
import { runtimeBrokerRoutes } from "./runtimeBrokers.ts";

/** What the routes of a replica work with. */
export interface HubRouteDeps extends Base, InsideDeps, HealthDeps, HeartbeatDeps, PluginDeps {
  readonly database: Database;
  readonly actions: ActionDeps;
  readonly changed: () => void;
  readonly agentTokens: AgentTokens;
  readonly secrets: RuntimeBrokerSecrets;
  /** Closes the socket of a deleted runtime broker, if it is here. */
  readonly forget: (runtimeBrokerId: Uuid) => void;
  readonly metrics: Metrics;
  /** Something waits for these runtime brokers. */
  readonly wake: (runtimeBrokerIds: readonly Uuid[]) => void;
  readonly deleteAgents: (projectId: Uuid) => Promise<void>;
}

/** Every route of a replica. */
export const hubRoutes = (deps: HubRouteDeps): Route[] => [
  ...healthRoutes(deps),
  ...metricsRoutes(deps.metrics),
  ...internalRoutes(deps),
  ...brokerOnboardingRoutes(deps),
  ...runtimeBrokerRoutes(deps),
  ...heartbeatRoutes(deps),
  ...brokerPluginRoutes(deps),
  ...agentLifecycleRoutes(deps.actions),
  ...agentMessageRoutes(deps.actions),
  ...agentInsideRoutes(deps),
  ...resourceRoutes({
    ...deps,
    tokens: deps.agentTokens,
    once: (call, work) => deps.actions.idempotency.once(call, work),
    onAgentReady: ({ runtimeBrokerId }) => deps.wake(runtimeBrokerId === null ? [] : [runtimeBrokerId]),
  }),
  ...notConfiguredRoutes(),
];
