import type { CreateAgent, CreatedAgent, EnvGather, ProjectAgents } from "@rootstock/client";
import { CliError } from "../exitCodes.ts";
import type { Env } from "../flags.ts";

/** How often the hub may ask for more values before we believe that it will never be content. */
const MAX_ROUNDS = 5;

/** The wanted values from this environment. @throws CliError naming those that it lacks */
const gather = (wanted: EnvGather, env: Env): Record<string, string> => {
  const values: Record<string, string> = {};
  const missing: string[] = [];
  for (const key of wanted.needs) {
    const value = env[key];
    if (value) values[key] = value;
    else missing.push(wanted.secretInfo?.[key]?.description ? `${key} (${wanted.secretInfo[key].description})` : key);
  }
  if (missing.length === 0) return values;
  throw new CliError(
    `the agent needs values that are not set here: ${missing.join(", ")}. Export them and start again.`,
  );
};

/**
 * Starts an agent and hands in what its harness needs from this environment. When a value is missing, or the hub
 * refuses one, the half-made agent is removed again, so that the next try finds the name free.
 */
export const startAgent = async (agents: ProjectAgents, request: CreateAgent, env: Env): Promise<CreatedAgent> => {
  let created = await agents.create({ ...request, gatherEnv: true });
  try {
    for (let round = 1; created.envGather; round += 1) {
      if (round > MAX_ROUNDS) throw new CliError(`the hub keeps asking for ${created.envGather.needs.join(", ")}`);
      created = await agents.submitEnv(created.agent.id, gather(created.envGather, env));
    }
    return created;
  } catch (err) {
    await agents.delete(created.agent.id, { removeBranch: false, force: true }).catch(() => {});
    throw err;
  }
};
