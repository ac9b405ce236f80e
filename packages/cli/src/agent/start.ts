import {
  type CreateAgent,
  type CreatedAgent,
  type EnvGather,
  HubResponseError,
  type ProjectAgents,
} from "@rootstock/client";
import { slugify } from "@rootstock/protocol";
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

const exists = async (agents: ProjectAgents, name: string): Promise<boolean> => {
  try {
    await agents.get(slugify(name));
    return true;
  } catch (err) {
    if (err instanceof HubResponseError && err.status === 404) return false;
    throw err;
  }
};

/**
 * Starts an agent, or a stopped one again, and hands in what its harness needs from this environment. When a value is
 * missing, or the hub refuses one, an agent that this call has made is removed again, so that the next try finds the
 * name free; one that was there before is left alone.
 */
export const startAgent = async (agents: ProjectAgents, request: CreateAgent, env: Env): Promise<CreatedAgent> => {
  const isOurs = !(await exists(agents, request.name));
  let created = await agents.create({ ...request, gatherEnv: true, resume: true });
  try {
    for (let round = 1; created.envGather; round += 1) {
      if (round > MAX_ROUNDS) throw new CliError(`the hub keeps asking for ${created.envGather.needs.join(", ")}`);
      created = await agents.submitEnv(created.agent.id, gather(created.envGather, env));
    }
    return created;
  } catch (err) {
    if (isOurs) await agents.delete(created.agent.id, { removeBranch: false, force: true }).catch(() => {});
    throw err;
  }
};
