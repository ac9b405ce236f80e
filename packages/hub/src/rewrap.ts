import type { Base } from "@rootstock/service";
import { countUnsealedConfigs, Database, recordAudit, registeredReleases } from "@rootstock/store";
import type { StoredSecretsConfig } from "./config.ts";
import { comesBefore } from "./replicas/index.ts";
import {
  AgentConfigs,
  CONFIGS_SEALED_SINCE,
  keyManagement,
  type Resealed,
  resealAll,
  SecretBox,
} from "./secrets/index.ts";

const CONNECTIONS = 2;

/** Replicas run that could not read what would be written. */
export class OlderReplicasError extends Error {
  override readonly name = "OlderReplicasError";
  constructor() {
    super(`a replica of a release before ${CONFIGS_SEALED_SINCE} is running; finish the rollout first`);
  }
}

export interface Rewrapped extends Resealed {
  /** What a release before had stored open: so many values sealed, or with `check` agents that have any. */
  readonly open: number;
}

/**
 * Seals every stored secret anew that is not sealed under the first of the configured keys, and what is not sealed at
 * all; with `check` only counts them. Beside running replicas. Throws {@link OlderReplicasError}.
 */
export const rewrapStoredSecrets = async (
  config: StoredSecretsConfig,
  base: Base,
  options: { readonly check: boolean },
): Promise<Rewrapped> => {
  const { secrets } = config;
  const database = new Database({
    url: config.databaseUrl,
    pooled: false,
    poolSize: CONNECTIONS,
    applicationName: "rootstock-secrets",
    clock: base.clock,
    log: base.log,
  });
  try {
    await database.start();
    const { db } = database;
    const releases = await registeredReleases(db);
    if (releases.some((release) => comesBefore(release, CONFIGS_SEALED_SINCE))) throw new OlderReplicasError();
    const keys = keyManagement(config, base.random);
    const box = new SecretBox({ secrets, keys, clock: base.clock, random: base.random });
    const configs = new AgentConfigs(base, { db, box, olderReplicas: () => false });
    const open = options.check ? await countUnsealedConfigs(db) : await configs.sealAll(database);
    const done = await resealAll(base, { db, box, ...options });
    if (!options.check)
      await recordAudit(db, {
        action: "secrets_rewrapped",
        success: done.unreadable.length === 0 && !done.overtaken,
        targetType: "hub",
        details: {
          resealed: done.resealed,
          sealed: open,
          unreadable: done.unreadable.length,
          overtaken: done.overtaken,
        },
      });
    return { ...done, open };
  } finally {
    await database.stop();
  }
};
