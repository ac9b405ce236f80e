import { createAgent } from "./createAgent.ts";
import { deleteAgent } from "./deleteAgent.ts";
import { deleteProject } from "./deleteProject.ts";
import { execInAgent } from "./execInAgent.ts";
import { finalizeEnv } from "./finalizeEnv.ts";
import type { Operation } from "./operation.ts";
import { getAgent, hasPrompt, listAgents } from "./readAgents.ts";
import { health, info } from "./readBroker.ts";
import { readLogs } from "./readLogs.ts";
import { resetAuth } from "./resetAuth.ts";
import { restartAgent } from "./restartAgent.ts";
import { sendMessage } from "./sendMessage.ts";
import { startAgent } from "./startAgent.ts";
import { stopAgent, suspendAgent } from "./stopAgent.ts";
import { workspaceOperations } from "./workspaceUnavailable.ts";

/** Every operation of the runtime broker's API (spec/01 4.1). */
export const OPERATIONS: readonly Operation[] = [
  health,
  info,
  listAgents,
  getAgent,
  createAgent,
  startAgent,
  stopAgent,
  suspendAgent,
  restartAgent,
  deleteAgent,
  sendMessage,
  execInAgent,
  resetAuth,
  readLogs,
  hasPrompt,
  finalizeEnv,
  deleteProject,
  ...workspaceOperations,
];
