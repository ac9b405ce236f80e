import { createSecretKey } from "node:crypto";
import type { Random } from "@rootstock/service";
import { type KeyManagement, type LocalKey, unwrapLocally, type WrappedKey, wrapLocally } from "./keyManagement.ts";
import { deriveKey, keyName } from "./keys.ts";
import type { RootSecrets } from "./rootSecrets.ts";

const PREFIX = "secret:";

const keyOf = (secret: string): LocalKey => ({
  id: `${PREFIX}${keyName(secret, "data-keys")}`,
  key: createSecretKey(deriveKey(secret, "data-keys")),
});

/** Wraps data keys under keys derived from `ROOTSTOCK_SECRET`. */
export class SecretKeys implements KeyManagement {
  readonly #first: LocalKey;
  readonly #all: readonly LocalKey[];
  readonly #random: Random;

  constructor([first, ...former]: RootSecrets, random: Random) {
    this.#first = keyOf(first);
    this.#all = [this.#first, ...former.map(keyOf)];
    this.#random = random;
  }

  get wrapsWith(): string {
    return this.#first.id;
  }

  async wrap(dataKey: Uint8Array, purpose: string): Promise<WrappedKey> {
    return wrapLocally(this.#first, this.#random, dataKey, purpose);
  }

  keeps(keyId: string): boolean {
    return keyId.startsWith(PREFIX);
  }

  async unwrap(wrapped: WrappedKey, purpose: string): Promise<Buffer> {
    return unwrapLocally(this.#all, wrapped, purpose);
  }
}
