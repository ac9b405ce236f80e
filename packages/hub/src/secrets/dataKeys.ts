import { createSecretKey, type KeyObject } from "node:crypto";
import type { Clock, Random } from "@rootstock/service";
import type { KeyManagement, WrappedKey } from "./keyManagement.ts";

const KEY_BYTES = 32;
/** How long a data key seals new values, in milliseconds. */
const RENEW_AFTER_MS = 3_600_000;
/** How many values it seals at most: far from where random nonces of 96 bits might meet (2^32). */
const RENEW_AFTER_USES = 1_000_000;
/** Beyond so many, those not used for longest are unwrapped anew. */
const MOST_OPENED = 2_000;

/** A data key with the form in which it is stored beside every value that it seals. */
export interface DataKey {
  readonly key: KeyObject;
  readonly wrapped: WrappedKey;
}

interface Current {
  readonly dataKey: Promise<DataKey>;
  readonly since: number;
  uses: number;
}

/**
 * The keys that values are sealed with: made here, used for an hour, and stored wrapped with each value. So the keeper of
 * the wrapping key is asked once an hour and purpose, and once for each data key that is met, never once a value.
 */
export class DataKeys {
  readonly #keys: KeyManagement;
  readonly #base: { readonly clock: Clock; readonly random: Random };
  readonly #current = new Map<string, Current>();
  readonly #opened = new Map<string, Promise<KeyObject>>();

  constructor(keys: KeyManagement, base: { readonly clock: Clock; readonly random: Random }) {
    this.#keys = keys;
    this.#base = base;
  }

  /** The key that seals new values of this purpose. */
  current(purpose: string): Promise<DataKey> {
    const now = this.#base.clock.elapsed();
    const known = this.#current.get(purpose);
    if (known && now - known.since < RENEW_AFTER_MS && known.uses < RENEW_AFTER_USES) {
      known.uses += 1;
      return known.dataKey;
    }
    const made: Current = { dataKey: this.#make(purpose), since: now, uses: 1 };
    this.#current.set(purpose, made);
    // A keeper that could not be asked is asked again by the next value.
    made.dataKey.catch(() => {
      if (this.#current.get(purpose) === made) this.#current.delete(purpose);
    });
    return made.dataKey;
  }

  /** The key that was stored so. Throws as the keeper does. */
  unwrapped(wrapped: WrappedKey, purpose: string): Promise<KeyObject> {
    const name = `${purpose} ${wrapped.keyId} ${Buffer.from(wrapped.bytes).toString("latin1")}`;
    const known = this.#opened.get(name);
    this.#opened.delete(name);
    const key = known ?? this.#keys.unwrap(wrapped, purpose).then((bytes) => createSecretKey(bytes));
    this.#opened.set(name, key);
    if (!known) key.catch(() => this.#opened.delete(name));
    const [oldest] = this.#opened.keys();
    if (this.#opened.size > MOST_OPENED && oldest !== undefined) this.#opened.delete(oldest);
    return key;
  }

  async #make(purpose: string): Promise<DataKey> {
    const bytes = this.#base.random.bytes(KEY_BYTES);
    return { key: createSecretKey(bytes), wrapped: await this.#keys.wrap(bytes, purpose) };
  }
}
