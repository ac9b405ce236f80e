import type { AgentEnvironment, AgentRecord } from "./agentRecord.ts";
import type { CreatePayload } from "./createPayload.ts";

/** Whether an address means only the machine it is used on. */
export const isLoopback = (url: string): boolean => {
  try {
    return /^(localhost|127(\.\d+){3}|\[::1\])$/.test(new URL(url).hostname);
  } catch {
    return false;
  }
};

/**
 * The URL that an agent reaches the hub under: what the hub says, unless that is an address of the hub's own machine and
 * this runtime broker dialled another one (spec/01 4.2).
 */
export const hubUrlForAgent = (said: string | undefined, dialled: string): string =>
  said === undefined || (isLoopback(said) && !isLoopback(dialled)) ? dialled : said;

/** `K=V` texts as a map; one without `=` is passed over. */
export const parsePairs = (pairs: readonly string[] | null | undefined): Record<string, string> =>
  Object.fromEntries(
    (pairs ?? []).flatMap((pair) => {
      const at = pair.indexOf("=");
      return at > 0 ? [[pair.slice(0, at), pair.slice(at + 1)]] : [];
    }),
  );

/** Variables of the cloud metadata service; `block` when the hub says nothing (spec/01 4.2). */
export const metadataEnv = (identity: NonNullable<CreatePayload["config"]>["gcpIdentity"]): Record<string, string> => ({
  SCION_METADATA_MODE: identity?.metadata_mode ?? "block",
  SCION_METADATA_PORT: "18380",
  ...(identity?.sa_email && { SCION_METADATA_SA_EMAIL: identity.sa_email }),
  ...(identity?.project_id && { SCION_METADATA_PROJECT_ID: identity.project_id }),
});

/** Environment-type secrets as variables. */
export const secretEnv = (environment: AgentEnvironment): Record<string, string> =>
  Object.fromEntries(
    environment.secrets
      .filter((secret) => secret.type === "environment")
      .map((secret) => [secret.target || secret.name, secret.value]),
  );

/** Who the agent is, as the tools inside read it (spec/06 2.1). Wins over everything else. */
export const identityEnv = (
  record: AgentRecord,
  runtimeBroker: { readonly id: string; readonly name: string },
): Record<string, string> => ({
  SCION_AGENT_NAME: record.name,
  SCION_AGENT_SLUG: record.slug,
  SCION_AGENT_MODE: "hosted",
  ...(record.id && { SCION_AGENT_ID: record.id }),
  SCION_PROJECT: record.projectSlug,
  SCION_GROVE: record.projectSlug,
  SCION_PROJECT_ID: record.projectId,
  SCION_GROVE_ID: record.projectId,
  SCION_HARNESS: record.harness,
  SCION_HUB_ENDPOINT: record.hubUrl,
  SCION_HUB_URL: record.hubUrl,
  SCION_BROKER_ID: runtimeBroker.id,
  SCION_BROKER_NAME: runtimeBroker.name,
  SCION_CLI_MODE: "agent",
  ...(record.creatorName && { SCION_CREATOR: record.creatorName }),
  ...(record.template && { SCION_TEMPLATE: record.template, SCION_TEMPLATE_NAME: record.template }),
});

/** Variables that tell the tool inside a container what to clone; a process agent's workspace is cloned before it starts. */
export const gitEnv = (record: AgentRecord): Record<string, string> =>
  record.gitClone
    ? {
        SCION_GIT_CLONE_URL: record.gitClone.url,
        ...(record.gitClone.branch && { SCION_GIT_BRANCH: record.gitClone.branch }),
        ...(record.gitClone.depth !== undefined && { SCION_GIT_DEPTH: String(record.gitClone.depth) }),
        ...(record.branch && { SCION_AGENT_BRANCH: record.branch }),
      }
    : {};

/** Names of host variables that every program may rely on. */
const COMMON_NAMES = ["PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "USER", "LOGNAME", "SHELL", "TMPDIR"];

/** What a program on this machine gets from it: no more than it needs, because the rest may be secret. */
export const hostProgramEnv = (hostEnv: Readonly<Record<string, string>>, home: string): Record<string, string> => ({
  ...pickEnv(hostEnv, COMMON_NAMES),
  HOME: home,
  TERM: "xterm-256color",
  COLORTERM: "truecolor",
});

/** The named variables that are set and not empty. */
export const pickEnv = (env: Readonly<Record<string, string>>, names: readonly string[]): Record<string, string> =>
  Object.fromEntries(names.flatMap((name) => (env[name] ? [[name, env[name]]] : [])));
