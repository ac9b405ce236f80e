import type { KeyObject } from "node:crypto";
import type { Random } from "@rootstock/service";
import { decrypt, encrypt } from "./aesGcm.ts";
import { SecretBoxError } from "./errors.ts";

/** A data key as it is stored: encrypted by a key that never leaves its keeper. */
export interface WrappedKey {
  /** Whose: at most 255 bytes, unique among all keepers. */
  readonly keyId: string;
  readonly bytes: Uint8Array;
}

/**
 * Keeps the keys that wrap data keys: the shared secrets, a file, or a service elsewhere. `purpose` is authenticated
 * along, so that a data key of one purpose does not unwrap for another. Any error but {@link SecretBoxError} means that
 * the keeper could not be asked.
 */
export interface KeyManagement {
  /** The id of the key that wraps now. */
  readonly wrapsWith: string;
  wrap(dataKey: Uint8Array, purpose: string): Promise<WrappedKey>;
  /** Whether this keeper would have the key. */
  keeps(keyId: string): boolean;
  /** Throws {@link SecretBoxError} for a key that is not there, and for bytes that are not its. */
  unwrap(wrapped: WrappedKey, purpose: string): Promise<Buffer>;
}

/** A key that wraps, in the memory of this process. */
export interface LocalKey {
  readonly id: string;
  readonly key: KeyObject;
}

const contextOf = (keyId: string, purpose: string): string => `data key\u0000${keyId}\u0000${purpose}`;

/** Wraps under a key in memory. */
export const wrapLocally = (with_: LocalKey, random: Random, dataKey: Uint8Array, purpose: string): WrappedKey => ({
  keyId: with_.id,
  bytes: encrypt(with_.key, random, contextOf(with_.id, purpose), dataKey),
});

/** Unwraps with the key of that id among `keys`. Throws {@link SecretBoxError}. */
export const unwrapLocally = (keys: readonly LocalKey[], wrapped: WrappedKey, purpose: string): Buffer => {
  const found = keys.find((k) => k.id === wrapped.keyId);
  if (!found) throw new SecretBoxError(`sealed under a key that is not configured (${wrapped.keyId})`);
  return decrypt(found.key, contextOf(found.id, purpose), wrapped.bytes);
};

/** Several keepers: the first wraps, each unwraps what is its own. */
export class KeyManagements implements KeyManagement {
  readonly #first: KeyManagement;
  readonly #all: readonly KeyManagement[];

  constructor(first: KeyManagement, ...more: readonly KeyManagement[]) {
    this.#first = first;
    this.#all = [first, ...more];
  }

  get wrapsWith(): string {
    return this.#first.wrapsWith;
  }

  wrap(dataKey: Uint8Array, purpose: string): Promise<WrappedKey> {
    return this.#first.wrap(dataKey, purpose);
  }

  keeps(keyId: string): boolean {
    return this.#all.some((k) => k.keeps(keyId));
  }

  async unwrap(wrapped: WrappedKey, purpose: string): Promise<Buffer> {
    const keeper = this.#all.find((k) => k.keeps(wrapped.keyId));
    if (!keeper) throw new SecretBoxError("sealed under a key whose keeper is not configured");
    return keeper.unwrap(wrapped, purpose);
  }
}
