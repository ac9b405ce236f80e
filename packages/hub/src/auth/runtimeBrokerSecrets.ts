import { createSecretKey, type KeyObject } from "node:crypto";
import type { Uuid } from "@rootstock/protocol";
import type { Log, Random } from "@rootstock/service";
import { type Db, listSecrets, replaceSecret } from "@rootstock/store";
import { type SecretBox, SecretBoxError } from "../secrets/index.ts";

const SECRET_BYTES = 32;
/** More than one replica has runtime brokers; beyond it the keys not used for longest are opened anew. */
const MOST_OPENED = 20_000;

export interface RuntimeBrokerSecret {
  readonly id: Uuid;
  /** The same object at each call while it is in use: to make one costs more than to sign with it. */
  readonly key: KeyObject;
  /** Whether a request signed with it is accepted. The others only sign towards a machine that has not noticed yet. */
  readonly proves: boolean;
  /** When it is accepted no more, in milliseconds since 1970, where it has been replaced. */
  readonly until?: number | undefined;
}

interface Opened {
  readonly sealed: Buffer;
  /** The key itself once it is there: thousands are asked for at once, and a promise each would be most of the cost. */
  key: KeyObject | Promise<KeyObject>;
}

/** The secrets that runtime brokers and hub share, sealed at rest. */
export class RuntimeBrokerSecrets {
  readonly #box: SecretBox;
  readonly #random: Random;
  readonly #log: Log;
  /** Opened secrets by their row. What a row holds never changes; whether it counts is asked of the database each time. */
  readonly #opened = new Map<Uuid, Opened>();

  constructor(box: SecretBox, base: { readonly random: Random; readonly log: Log }) {
    this.#box = box;
    this.#random = base.random;
    this.#log = base.log;
  }

  /** The secrets that prove the runtime broker, and those that still sign towards it; newest first. */
  async of(db: Db, runtimeBrokerId: Uuid): Promise<readonly RuntimeBrokerSecret[]> {
    return (await this.ofMany(db, [runtimeBrokerId])).get(runtimeBrokerId) ?? [];
  }

  /** The same of many, by runtime broker; those without any are missing. */
  async ofMany(db: Db, runtimeBrokerIds: readonly Uuid[]): Promise<ReadonlyMap<Uuid, readonly RuntimeBrokerSecret[]>> {
    const found = new Map<Uuid, RuntimeBrokerSecret[]>();
    const rows = await listSecrets(db, runtimeBrokerIds);
    const keys = rows.map(({ id, runtimeBrokerId, secret }) => {
      const key = this.#open(id, secret);
      return key instanceof Promise ? this.#orLog(key, id, runtimeBrokerId) : key;
    });
    const opened = keys.some((key) => key instanceof Promise) ? await Promise.all(keys) : keys;
    for (const [i, { id, runtimeBrokerId, proves, until }] of rows.entries()) {
      const key = opened[i];
      if (!key || key instanceof Promise) continue;
      const secret = { id, key, proves, ...(until && { until: until.getTime() }) };
      const secrets = found.get(runtimeBrokerId);
      if (secrets) secrets.push(secret);
      else found.set(runtimeBrokerId, [secret]);
    }
    return found;
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
    const secret = await this.#box.seal("runtime-broker-secret", id, key);
    const rotatedAt = await replaceSecret(db, { id, runtimeBrokerId, secret, graceMs });
    return { key, rotatedAt };
  }

  async #orLog(opening: Promise<KeyObject>, id: Uuid, runtimeBrokerId: Uuid): Promise<KeyObject | undefined> {
    try {
      return await opening;
    } catch (err) {
      if (!(err instanceof SecretBoxError)) throw err;
      this.#log.error({ err, runtimeBrokerId, secretId: id }, "secret of a runtime broker cannot be opened");
      return undefined;
    }
  }

  #open(id: Uuid, sealed: Buffer): KeyObject | Promise<KeyObject> {
    const known = this.#opened.get(id);
    this.#opened.delete(id);
    // Sealed otherwise, the row was sealed anew, or tampered with or moved: it must not open because another did before.
    const opened = known?.sealed.equals(sealed) ? known : this.#unseal(id, sealed);
    this.#opened.set(id, opened);
    if (this.#opened.size > MOST_OPENED)
      for (const oldest of this.#opened.keys()) {
        this.#opened.delete(oldest);
        break;
      }
    return opened.key;
  }

  #unseal(id: Uuid, sealed: Buffer): Opened {
    // A copy of its own: what a driver or a decipher returns is a view that keeps kilobytes of other values in memory.
    const own = Buffer.allocUnsafeSlow(sealed.byteLength);
    sealed.copy(own);
    const opening = this.#box.open("runtime-broker-secret", id, own).then((key) => createSecretKey(key));
    const opened: Opened = { sealed: own, key: opening };
    opening.then(
      (key) => {
        opened.key = key;
      },
      () => {
        if (this.#opened.get(id) === opened) this.#opened.delete(id);
      },
    );
    return opened;
  }
}
