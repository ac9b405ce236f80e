import { createHash } from "node:crypto";
import { join } from "node:path";
import { z } from "zod";
import type { AgentPlace } from "../runtimes/runtime.ts";

/** Phases that a runtime broker reports (spec/01 4.1). */
export const RECORD_PHASES = ["created", "starting", "running", "stopping", "stopped", "suspended", "error"] as const;
export type RecordPhase = (typeof RECORD_PHASES)[number];

/** What is kept of an agent on disk (`agent.json`), besides its environment, which has a file of its own. */
export const agentRecordSchema = z.object({
  key: z.string(),
  /** The hub's id of the agent; unknown for one that was started without it. */
  id: z.string().optional(),
  slug: z.string(),
  name: z.string(),
  projectId: z.string(),
  projectSlug: z.string(),
  userId: z.string().optional(),
  creatorName: z.string().optional(),
  template: z.string().optional(),
  /** Name of the harness configuration, as given by the hub or by default. */
  harness: z.string(),
  harnessAuth: z.string().optional(),
  profile: z.string(),
  image: z.string().optional(),
  /** Absolute path of what the agent works on. */
  workspace: z.string(),
  gitClone: z.object({ url: z.string(), branch: z.string().optional(), depth: z.number().optional() }).optional(),
  branch: z.string().optional(),
  labels: z.record(z.string(), z.string()),
  /** The task it was created with; typed at its first start unless that brings its own. */
  task: z.string(),
  started: z.boolean(),
  /** Started without credentials on purpose: nothing that the harness requires is asked for. */
  noAuth: z.boolean().optional(),
  phase: z.enum(RECORD_PHASES),
  exitCode: z.number().int().optional(),
  /** The create call that made it: a repetition with this id finds it instead of making it again. */
  createRequestId: z.string().optional(),
  /** Base URL that the agent reaches the hub under. */
  hubUrl: z.string(),
  createdAt: z.number(),
  updatedAt: z.number(),
});
export type AgentRecord = z.infer<typeof agentRecordSchema>;

/** The environment an agent was last started with (`env.json`): needed again when a later start brings none. */
export const agentEnvironmentSchema = z.object({
  /** Without the agent token, which has its own file. */
  env: z.record(z.string(), z.string()),
  secrets: z.array(z.object({ name: z.string(), type: z.string(), target: z.string(), value: z.string() })),
});
export type AgentEnvironment = z.infer<typeof agentEnvironmentSchema>;
export type AgentSecret = AgentEnvironment["secrets"][number];

/** Agents' names are unique in a project only; the key is unique here, and safe as a file name whatever the hub sends. */
export const agentKey = (projectId: string, slug: string): string =>
  createHash("sha256").update(`${projectId}\n${slug.toLowerCase()}`).digest("hex").slice(0, 24);

/** Where an agent's files are below the state directory. */
export const agentDirectory = (stateDirectory: string, key: string): string => join(stateDirectory, "agents", key);

export const placeOf = (stateDirectory: string, record: AgentRecord): AgentPlace => {
  const directory = agentDirectory(stateDirectory, record.key);
  return {
    key: record.key,
    slug: record.slug,
    projectId: record.projectId,
    directory,
    home: join(directory, "home"),
    workspace: record.workspace,
  };
};
