import { mkdir, readdir, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { basename, dirname, isAbsolute, join, resolve } from "node:path";
import type { Clock } from "@rootstock/service";
import { makePrivateDirectory } from "../files.ts";
import { runCommand } from "../runtimes/runCommand.ts";
import { RuntimeFailure } from "../runtimes/runtime.ts";
import { BrokerApiError } from "../tunnel/errors.ts";
import { type AgentRecord, agentDirectory } from "./agentRecord.ts";

const CLONE_TIMEOUT_MS = 300_000;

/**
 * The directory below the state directory that belongs to a project.
 * @throws BrokerApiError 400 for a name that would lead out of it
 */
export const projectDirectory = (stateDirectory: string, slug: string): string => {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,200}$/.test(slug)) {
    throw new BrokerApiError("validation_error", "invalid project slug", { details: { field: "projectSlug" } });
  }
  return join(stateDirectory, "projects", slug);
};

export interface WorkspaceParams {
  readonly stateDirectory: string;
  readonly key: string;
  readonly projectSlug: string;
  /** Path of the project on this machine, from its provider record. */
  readonly projectPath: string | undefined;
  /** All agents of the project work in one directory. */
  readonly shared: boolean;
}

const isDirectory = (path: string): Promise<boolean> =>
  stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );

/**
 * What an agent works on: the project's own directory on this machine where there is one, else a directory of the project
 * (shared) or of the agent. The home directory is nobody's project: the path of the `global` project points there.
 */
export const workspacePath = async (p: WorkspaceParams): Promise<string> => {
  if (p.projectPath && isAbsolute(p.projectPath)) {
    const given = resolve(p.projectPath);
    const root = basename(given) === ".scion" ? dirname(given) : given;
    if (root !== homedir() && root !== "/" && (await isDirectory(root))) return root;
  }
  return p.shared
    ? join(projectDirectory(p.stateDirectory, p.projectSlug), "workspace")
    : join(agentDirectory(p.stateDirectory, p.key), "workspace");
};

/** Makes the directories an agent needs. */
export const prepareDirectories = async (stateDirectory: string, record: AgentRecord): Promise<void> => {
  await makePrivateDirectory(agentDirectory(stateDirectory, record.key));
  await mkdir(join(agentDirectory(stateDirectory, record.key), "home"), { recursive: true, mode: 0o700 });
  await mkdir(record.workspace, { recursive: true });
};

const CREDENTIAL_HELPER = '!f() { test "$1" = get && printf "username=oauth2\\npassword=%s\\n" "$GITHUB_TOKEN"; }; f';

/** Lets git find the token in its environment, for the clone's own host only; the token itself is on no command line. */
const credentialOptions = (url: string): string[] => {
  const origin = URL.canParse(url) ? new URL(url).origin : "null";
  return origin === "null"
    ? []
    : ["-c", `credential.${origin}.helper=`, "-c", `credential.${origin}.helper=${CREDENTIAL_HELPER}`];
};

/**
 * Clones the project's repository into an empty workspace, for agents without a tool inside that does it.
 * @throws RuntimeFailure with what git said
 */
export const cloneInto = async (
  clock: Clock,
  record: AgentRecord,
  env: Readonly<Record<string, string>>,
): Promise<void> => {
  const { gitClone, workspace } = record;
  if (!gitClone || (await readdir(workspace)).length > 0) return;
  const command = [
    "git",
    ...(env.GITHUB_TOKEN ? credentialOptions(gitClone.url) : []),
    "clone",
    ...(gitClone.depth ? ["--depth", String(gitClone.depth)] : []),
    ...(gitClone.branch ? ["--branch", gitClone.branch] : []),
    "--",
    gitClone.url,
    workspace,
  ];
  const result = await runCommand(clock, {
    command,
    env: { ...env, GIT_TERMINAL_PROMPT: "0", GIT_ALLOW_PROTOCOL: "https:http:ssh:git" },
    timeoutMs: CLONE_TIMEOUT_MS,
  }).catch((err: unknown) => {
    throw new RuntimeFailure(`git clone: ${err instanceof Error ? err.message : String(err)}`, { cause: err });
  });
  if (result.exitCode !== 0) throw new RuntimeFailure(`git clone failed: ${result.output.trim().slice(-2_000)}`);
};
