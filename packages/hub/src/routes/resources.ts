import { agentReadRoutes } from "./agentReads.ts";
import { type AgentStatusDeps, agentStatusRoutes } from "./agentStatus.ts";
import { type AgentTokenDeps, agentTokenRoutes } from "./agentTokens.ts";
import { agentUpdateRoutes } from "./agentUpdates.ts";
import { authMeRoutes } from "./authMe.ts";
import { groupMemberRoutes } from "./groupMembers.ts";
import { groupRoutes } from "./groups.ts";
import { messageReadRoutes } from "./messageReads.ts";
import { notificationRoutes } from "./notifications.ts";
import { policyRoutes } from "./policies.ts";
import { projectRegisterRoutes } from "./projectRegister.ts";
import { projectSettingsRoutes } from "./projectSettings.ts";
import { type ProjectDeps, projectRoutes } from "./projects.ts";
import { providerRoutes } from "./providers.ts";
import type { Route } from "./route.ts";
import { settingsRoutes } from "./settings.ts";
import { sharedDirRoutes } from "./sharedDirs.ts";
import { type TraceDeps, traceRoutes } from "./traces.ts";

/** What the routes of stored resources need. */
export interface ResourceRouteDeps extends ProjectDeps, AgentTokenDeps, AgentStatusDeps, TraceDeps {}

/** Reading and changing what is stored: projects, agents, messages, subscriptions. No runtime broker is called by these. */
export const resourceRoutes = (deps: ResourceRouteDeps): Route[] => [
  ...authMeRoutes(),
  ...settingsRoutes(),
  ...projectRegisterRoutes(deps),
  ...projectRoutes(deps),
  ...projectSettingsRoutes(deps),
  ...sharedDirRoutes(deps),
  ...providerRoutes(deps),
  ...agentReadRoutes(deps),
  ...agentUpdateRoutes(deps),
  ...agentStatusRoutes(deps),
  ...agentTokenRoutes(deps),
  ...messageReadRoutes(deps),
  ...groupRoutes(deps),
  ...groupMemberRoutes(deps),
  ...policyRoutes(deps),
  ...traceRoutes(deps),
  ...notificationRoutes(deps),
];
