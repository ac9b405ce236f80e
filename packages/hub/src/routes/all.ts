import type { Uuid } from "@rootstock/protocol";
import type { Base } from "@rootstock/service";
import type { Database } from "@rootstock/store";
import type { ActionDeps } from "../actions/index.ts";
import type { AgentTokens } from "../auth/index.ts";
import type { Metrics } from "../metrics/index.ts";
import { agentInsideRoutes, type InsideDeps } from "./agentInside.ts";
import { agentLifecycleRoutes } from "./agentLifecycle.ts";
import { agentMessageRoutes } from "./agentMessages.ts";
import { type HealthDeps, healthRoutes } from "./health.ts";
import { internalRoutes } from "./internal.ts";
import { metricsRoutes } from "./metrics.ts";
import { notConfiguredRoutes } from "./notConfigured.ts";
import { resourceRoutes } from "./resources.ts";
import type { Route } from "./route.ts";

/** What the routes of a replica work with. */
export interface HubRouteDeps extends Base, InsideDeps, HealthDeps {
  readonly database: Database;
  readonly actions: ActionDeps;
  readonly changed: () => void;
  readonly agentTokens: AgentTokens;
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
  ...agentLifecycleRoutes(deps.actions),
  ...agentMessageRoutes(deps.actions),
  ...agentInsideRoutes(deps),
  ...resourceRoutes({
    ...deps,
    tokens: deps.agentTokens,
    onAgentReady: ({ runtimeBrokerId }) => deps.wake(runtimeBrokerId === null ? [] : [runtimeBrokerId]),
  }),
  ...notConfiguredRoutes(),
];
