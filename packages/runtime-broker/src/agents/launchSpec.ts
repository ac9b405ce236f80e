import { join } from "node:path";
import type { RuntimeBrokerConfig } from "../config.ts";
import { makePrivateDirectory, writeDurably } from "../files.ts";
import { type Harness, harnessCommand } from "../harness/harness.ts";
import { type AgentPlace, type LaunchSpec, type Runtime, RuntimeFailure } from "../runtimes/runtime.ts";
import type { AgentEnvironment, AgentRecord, AgentSecret } from "./agentRecord.ts";
import { gitEnv, hostProgramEnv, identityEnv, pickEnv, secretEnv } from "./launchEnv.ts";

export interface LaunchSpecParams {
  readonly config: RuntimeBrokerConfig;
  readonly record: AgentRecord;
  readonly place: AgentPlace;
  readonly harness: Harness;
  readonly environment: AgentEnvironment;
  readonly runtime: Runtime;
  readonly runtimeBrokerId: string;
  readonly hasToken: boolean;
  readonly task: string;
  readonly resume: boolean;
}

/** Puts together what a runtime needs for one start, and writes the secrets that are files. */
export const launchSpec = async (p: LaunchSpecParams): Promise<LaunchSpec> => {
  const { config, record, place, harness, environment } = p;
  const { SCION_AUTH_TOKEN, ...given } = environment.env;
  const required = missingKeys(p);
  if (required.length > 0) throw new RuntimeFailure(`missing environment values: ${required.join(", ")}`);
  const identity = identityEnv(record, { id: p.runtimeBrokerId, name: config.name });
  return {
    place,
    command: harnessCommand(harness, p),
    env: {
      ...(p.runtime.reportsItself ? {} : hostProgramEnv(config.hostEnv, place.home)),
      ...pickEnv(config.hostEnv, harness.passEnv),
      ...harness.env,
      ...secretEnv(environment),
      ...given,
      ...gitEnv(record),
      ...identity,
      // Without a file the variable is the only way; with one it would go stale at the first refresh.
      ...(SCION_AUTH_TOKEN && !p.hasToken && { SCION_AUTH_TOKEN }),
    },
    image: record.image ?? harness.image ?? config.containerImage,
    files: await writeSecretFiles(place, environment.secrets),
    labels: record.labels,
    projectName: record.projectSlug,
  };
};

/** Values that the harness cannot do without and nobody has given: better said here than by the harness, if it says it. */
const missingKeys = ({ config, record, harness, environment }: LaunchSpecParams): string[] => {
  const known = {
    ...pickEnv(config.hostEnv, harness.passEnv),
    ...harness.env,
    ...secretEnv(environment),
    ...environment.env,
  };
  const files = environment.secrets.map((secret) => secret.name);
  return record.noAuth ? [] : harness.requiredEnv.filter((key) => !known[key] && !files.includes(key));
};

/**
 * Secrets of type `file` are written beside the agent's home and shown at their target; those of type `variable` are one
 * JSON file in the home (spec/01 4.2, and where the original's tools look).
 */
const writeSecretFiles = async (place: AgentPlace, secrets: readonly AgentSecret[]): Promise<LaunchSpec["files"]> => {
  const variables = secrets.filter((secret) => secret.type === "variable");
  if (variables.length > 0) {
    await makePrivateDirectory(join(place.home, ".scion"));
    const content = Object.fromEntries(variables.map((secret) => [secret.target, secret.value]));
    await writeDurably(join(place.home, ".scion", "secrets.json"), JSON.stringify(content));
  }
  const directory = join(place.directory, "secrets");
  const files: { source: string; target: string }[] = [];
  for (const [index, secret] of secrets.filter((s) => s.type === "file").entries()) {
    await makePrivateDirectory(directory);
    const source = join(directory, String(index));
    await writeDurably(source, decodeFileSecret(secret.value));
    files.push({ source, target: secret.target });
  }
  return files;
};

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/** The content is base64, or, from older hubs, the text itself. */
const decodeFileSecret = (value: string): string | Buffer =>
  BASE64.test(value) ? Buffer.from(value, "base64") : value;
