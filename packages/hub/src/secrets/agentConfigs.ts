import type { Uuid } from "@rootstock/protocol";
import type { Base } from "@rootstock/service";
import {
  CONFIG_VALUES,
  type ConfigValueName,
  type ConfigValues,
  configValues,
  type Database,
  type Db,
  demandSealedConfigs,
  isForbidden,
  keepConfigValues,
  type NewlySealed,
  replaceUnsealed,
  type SealedConfigValue,
  type StoredConfig,
  unsealedConfigValues,
} from "@rootstock/store";
import { SecretBoxError } from "./errors.ts";
import type { SecretBox } from "./secretBox.ts";

/** The first release that looks for what a configuration gives the container where it is sealed. */
export const CONFIGS_SEALED_SINCE = "0.3.0";

const PURPOSE = "agent-config-value";
/** Agents whose configurations are sealed in one transaction. */
const CHUNK_AGENTS = 200;

/** An agent as far as its configuration goes. */
export interface Configured {
  readonly id: Uuid;
  readonly applied_config: StoredConfig;
}

/** Values of a configuration as they are to be kept. */
export interface KeptConfig {
  /** The configuration with these values in the place of what was kept of it before. */
  readonly over: (config: StoredConfig) => StoredConfig;
  /** Keeps what is sealed of them. In the transaction that writes the configuration. */
  readonly keep: (tx: Db) => Promise<void>;
}

export interface AgentConfigsOptions {
  readonly db: Db;
  readonly box: Pick<SecretBox, "open" | "seal">;
  /** Whether replicas may be there, or come back, that look for values in the configuration alone. */
  readonly olderReplicas: () => boolean;
}

/**
 * What agents' configurations give their containers, sealed at rest. Each value is sealed for its agent and name. Where a
 * configuration still holds one as it was given, a replica of an earlier release has written it, later than the sealed one.
 */
export class AgentConfigs {
  readonly #log: Base["log"];
  readonly #options: AgentConfigsOptions;
  #demanded: Promise<void> | undefined;

  constructor({ log }: Pick<Base, "log">, options: AgentConfigsOptions) {
    this.#log = log;
    this.#options = options;
  }

  /**
   * How the values are to be kept; values of other names stay as they are. To be called before the transaction: whoever
   * keeps the keys may have to be asked, and nobody's connection waits for that.
   */
  async kept(agentId: Uuid, values: ConfigValues): Promise<KeptConfig> {
    const names = CONFIG_VALUES.filter((name) => values[name] !== undefined);
    if (names.length === 0) return { over: (config) => config, keep: async () => {} };
    if (this.#options.olderReplicas()) return { over: (config) => ({ ...config, ...values }), keep: async () => {} };
    await this.#demand();
    const sealed = await Promise.all(names.map((name) => this.#seal(agentId, name, JSON.stringify(values[name]))));
    return { over: (config) => withSealed(config, names), keep: (tx) => keepConfigValues(tx, sealed) };
  }

  /** What the agent's configuration gives its container. Throws {@link SecretBoxError} when that cannot be opened. */
  async of(agent: Configured): Promise<ConfigValues> {
    return this.#open(agent, (await this.#sealedOf([agent])).get(agent.id) ?? []);
  }

  /** The same of many, to be shown: those that cannot be opened are left out, and logged. */
  async shown(agents: readonly Configured[]): Promise<ReadonlyMap<Uuid, ConfigValues>> {
    const sealed = await this.#sealedOf(agents);
    const shown = new Map<Uuid, ConfigValues>();
    const unreadable: Uuid[] = [];
    const show = async (agent: Configured): Promise<void> => {
      try {
        shown.set(agent.id, await this.#open(agent, sealed.get(agent.id) ?? []));
      } catch (err) {
        if (!(err instanceof SecretBoxError)) throw err;
        unreadable.push(agent.id);
      }
    };
    await Promise.all(agents.map(show));
    if (unreadable.length > 0)
      this.#log.warn(
        { agents: unreadable.length, agentId: unreadable[0] },
        "configurations of agents cannot be opened: shown without their values",
      );
    return shown;
  }

  /** Nothing is asked for agents that have nothing sealed. */
  async #sealedOf(agents: readonly Configured[]): Promise<ReadonlyMap<Uuid, readonly SealedConfigValue[]>> {
    const ids = agents.flatMap((a) => (a.applied_config.valuesVersion === undefined ? [] : a.id));
    const values = ids.length === 0 ? [] : await configValues(this.#options.db, ids);
    return Map.groupBy(values, ({ agentId }) => agentId);
  }

  async #open({ id, applied_config: config }: Configured, sealed: readonly SealedConfigValue[]): Promise<ConfigValues> {
    if (config.valuesVersion !== undefined && sealed.length === 0)
      throw new SecretBoxError("the values of a configuration are gone");
    const values: Record<string, unknown> = {};
    for (const { name, value } of sealed)
      if (config[name] === undefined)
        values[name] = JSON.parse((await this.#options.box.open(PURPOSE, `${id} ${name}`, value)).toString());
    for (const name of CONFIG_VALUES) if (config[name] !== undefined) values[name] = config[name];
    return values;
  }

  /**
   * Once: from then on no code may serve that would not find what is sealed. Where a replica may not write that down (a
   * role that only migrations have), whoever takes a release back has to know it from the README.
   */
  #demand(): Promise<void> {
    this.#demanded ??= demandSealedConfigs(this.#options.db).catch((err: unknown) => {
      this.#demanded = undefined;
      if (!isForbidden(err)) throw err;
      this.#log.warn({ err }, "the schema does not refuse releases that find no sealed configurations");
    });
    return this.#demanded;
  }

  async #seal(agentId: Uuid, name: ConfigValueName, json: string): Promise<SealedConfigValue> {
    return { agentId, name, value: await this.#options.box.seal(PURPOSE, `${agentId} ${name}`, Buffer.from(json)) };
  }

  /**
   * Seals the values that configurations hold as they were given, unless replicas are there that look for them nowhere
   * else. In chunks, each a short transaction; what is changed meanwhile is left to the next time. Safe to run twice, at
   * once and beside running replicas. Returns how many values it sealed.
   */
  async sealAll(database: Pick<Database, "background">, signal?: AbortSignal): Promise<number> {
    const { db, olderReplicas } = this.#options;
    let sealed = 0;
    let after: Uuid | undefined;
    while (!olderReplicas() && signal?.aborted !== true) {
      const page = await database.background(() => unsealedConfigValues(db, { after, limit: CHUNK_AGENTS }));
      const anew = await Promise.all(
        page.map(async (v): Promise<NewlySealed> => ({ ...v, ...(await this.#seal(v.agentId, v.name, v.json)) })),
      );
      if (anew.length === 0) break;
      await this.#demand();
      sealed += await database.background(() => replaceUnsealed(db, anew));
      after = anew.at(-1)?.agentId;
    }
    return sealed;
  }
}

/** A configuration whose values of these names are sealed. */
const withSealed = (config: StoredConfig, names: readonly ConfigValueName[]): StoredConfig => {
  const { env, inlineConfig, valuesVersion = 0, ...rest } = config;
  return {
    ...rest,
    ...(env && !names.includes("env") && { env }),
    ...(inlineConfig && !names.includes("inlineConfig") && { inlineConfig }),
    valuesVersion: valuesVersion + 1,
  };
};
