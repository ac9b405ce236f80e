import type { Uuid } from "@rootstock/protocol";
import type { Log, Random } from "@rootstock/service";
import { type Db, listSecrets, replaceSecret } from "@rootstock/store";
import { type SecretBox, SecretBoxError } from "./secretBox.ts";

const SECRET_BYTES = 32;

export interface RuntimeBrokerSecret {
  readonly id: Uuid;
  readonly key: Buffer;
  /** Whether a request signed with it is accepted. The others only sign towards a machine that has not noticed yet. */
  readonly proves: boolean;
}

/** The secrets that runtime brokers and hub share, sealed at rest. */
export class RuntimeBrokerSecrets {
  readonly #box: SecretBox;
  readonly #random: Random;
  readonly #log: Log;

  constructor(box: SecretBox, base: { readonly random: Random; readonly log: Log }) {
    this.#box = box;
    this.#random = base.random;
    this.#log = base.log;
  }

  /** The secrets that prove the runtime broker, and those that still sign towards it; newest first. */
  async of(db: Db, runtimeBrokerId: Uuid): Promise<readonly RuntimeBrokerSecret[]> {
    const rows = await listSecrets(db, runtimeBrokerId);
    return rows.flatMap((row) => {
      try {
        const key = this.#box.open("runtime-broker-secret", row.id, row.secret);
        return [{ id: row.id, key, proves: row.proves }];
      } catch (err) {
        if (!(err instanceof SecretBoxError)) throw err;
        this.#log.error({ err, runtimeBrokerId, secretId: row.id }, "secret of a runtime broker cannot be opened");
        return [];
      }
    });
  }

  /**
   * Makes a new secret and stores it in the place of the present one, which proves its holder for `graceMs` more. To be
   * called inside a transaction that holds the runtime broker's row.
   */
  async replace(
    db: Db,
    runtimeBrokerId: Uuid,
    graceMs: number,
  ): Promise<{ readonly key: Buffer; readonly rotatedAt: Date }> {
    const id = this.#random.uuid();
    const key = this.#random.bytes(SECRET_BYTES);
    const secret = this.#box.seal("runtime-broker-secret", id, key);
    const rotatedAt = await replaceSecret(db, { id, runtimeBrokerId, secret, graceMs });
    return { key, rotatedAt };
  }
}
