import { type Db, type DispatchTarget, type KeptValue, keptValues } from "@rootstock/store";
import { type AgentTokens, agentScopes } from "../auth/index.ts";
import type { SecretBox } from "../secrets/index.ts";
import type { KeptValues, MintAgentToken } from "./operations/index.ts";

/** Issues tokens for container runs. */
export const agentTokenMinter =
  (tokens: AgentTokens, options: { readonly development: boolean }): MintAgentToken =>
  async ({ agent }: DispatchTarget) => {
    const issued = await tokens.issue({
      agentId: agent.id,
      projectId: agent.project_id,
      scopes: agentScopes(options),
      ancestry: agent.ancestry,
      tokenVersion: agent.token_version,
      runId: agent.run_id ?? undefined,
    });
    return issued.token;
  };

const PURPOSE = "agent-kept-value";

/** The row that a kept value is sealed for. */
const rowOf = (agentId: string, key: string): string => `${agentId} ${key}`;

/** Seals a value gathered from a person's environment for the agent's row of this key. */
export const sealKeptValue = (box: SecretBox, agentId: string, key: string, value: string): Promise<Buffer> =>
  box.seal(PURPOSE, rowOf(agentId, key), Buffer.from(value));

/** Reads the values kept for an agent. */
export const keptValueReader =
  (db: Db, box: SecretBox): KeptValues =>
  async (agentId) => {
    const rows = await keptValues(db, agentId);
    const open = async ({ key, value }: KeptValue): Promise<[string, string]> => [
      key,
      (await box.open(PURPOSE, rowOf(agentId, key), value)).toString(),
    ];
    return Object.fromEntries(await Promise.all(rows.map(open)));
  };
