import type { RuntimeBrokerConfig } from "../config.ts";
import type { AgentEnvironment } from "./agentRecord.ts";
import type { CreatePayload } from "./createPayload.ts";
import { parsePairs, pickEnv } from "./launchEnv.ts";

export interface EnvGather {
  readonly required: string[];
  readonly hubHas: null;
  /** Keys that this machine's own environment provides. */
  readonly brokerHas: string[] | null;
  readonly needs: string[];
  readonly secretInfo?: Readonly<Record<string, { source: string; description?: string; type?: string }>>;
}

/** The harness that an agent is to run: the agent's own choice, then its inline configuration's, then the default. */
export const harnessName = (
  choice: { readonly config?: string | undefined; readonly inline?: string | undefined },
  config: RuntimeBrokerConfig,
): string => choice.config ?? choice.inline ?? config.defaultHarness;

/** Which values an agent needs and which of them nobody has yet (spec/01 4.4). `kept`: what an earlier start was given. */
export const gatherEnv = (
  payload: CreatePayload,
  config: RuntimeBrokerConfig,
  kept: AgentEnvironment | undefined,
): EnvGather => {
  const name = harnessName(
    { config: payload.config?.harnessConfig, inline: payload.inlineConfig?.harness_config },
    config,
  );
  const harness = Object.hasOwn(config.harnesses, name) ? config.harnesses[name] : undefined;
  const fromHarness = payload.noAuth ? [] : (harness?.requiredEnv ?? []);
  const info: Record<string, { source: string; description?: string; type?: string }> = {};
  for (const key of fromHarness) info[key] = { source: "auth" };
  for (const secret of payload.requiredSecrets) {
    info[secret.key] = {
      source: "template",
      ...(secret.description && { description: secret.description }),
      ...(secret.type && { type: secret.type }),
    };
  }
  // What the harness itself requires has no substitute: a later start would fail for want of it.
  const alternatives = new Map(
    payload.requiredSecrets
      .filter((s) => !fromHarness.includes(s.key))
      .map((s) => [s.key, s.alternative_env_keys ?? []]),
  );
  const given = {
    ...kept?.env,
    ...payload.inlineConfig?.env,
    ...payload.resolvedEnv,
    ...parsePairs(payload.config?.env),
  };
  const here = pickEnv(config.hostEnv, harness?.passEnv ?? []);
  const hasSecret = (key: string) =>
    [...(kept?.secrets ?? []), ...payload.resolvedSecrets].some((s) => s.target === key || s.name === key);
  const isGiven = (key: string) => Boolean(given[key]) || hasSecret(key);
  const required = Object.keys(info);
  const brokerHas = required.filter((key) => !isGiven(key) && here[key]);
  const needs = required.filter(
    (key) => !isGiven(key) && !here[key] && !alternatives.get(key)?.some((other) => isGiven(other) || here[other]),
  );
  return {
    required,
    hubHas: null,
    brokerHas: brokerHas.length > 0 ? brokerHas : null,
    needs,
    ...(needs.length > 0 && {
      secretInfo: Object.fromEntries(needs.map((key) => [key, info[key] ?? { source: "auth" }])),
    }),
  };
};
