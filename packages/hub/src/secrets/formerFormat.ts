import { createSecretKey, type KeyObject } from "node:crypto";
import type { Random } from "@rootstock/service";
import { decrypt, encrypt } from "./aesGcm.ts";
import { SecretBoxError } from "./errors.ts";
import { deriveKey, type KeyPurpose } from "./keys.ts";
import type { RootSecrets } from "./rootSecrets.ts";

/** The first byte of a value sealed as releases before 0.2.0 do. */
export const FORMER_VERSION = 1;

const contextOf = (purpose: KeyPurpose, rowId: string): string => `${FORMER_VERSION}\u0000${purpose}\u0000${rowId}`;

/**
 * The format of releases before 0.2.0: encrypted by a key derived from the shared secret and the purpose, with nothing
 * that tells which secret it was. Read for as long as such values are stored, and written while such replicas run.
 */
export class FormerFormat {
  readonly #secrets: RootSecrets;
  readonly #keys = new Map<string, KeyObject>();

  constructor(secrets: RootSecrets) {
    this.#secrets = secrets;
  }

  seal(random: Random, purpose: KeyPurpose, rowId: string, plain: Uint8Array): Buffer {
    const key = this.#key(this.#secrets[0], purpose);
    return Buffer.concat([Buffer.of(FORMER_VERSION), encrypt(key, random, contextOf(purpose, rowId), plain)]);
  }

  /** Throws {@link SecretBoxError} when no secret's key opens it. */
  open(purpose: KeyPurpose, rowId: string, sealed: Buffer): Buffer {
    let refusal = new SecretBoxError("sealed value does not belong to this key and row");
    for (const secret of this.#secrets) {
      try {
        return decrypt(this.#key(secret, purpose), contextOf(purpose, rowId), sealed.subarray(1));
      } catch (err) {
        if (!(err instanceof SecretBoxError)) throw err;
        refusal = err;
      }
    }
    throw refusal;
  }

  #key(secret: string, purpose: KeyPurpose): KeyObject {
    const name = `${purpose} ${secret}`;
    const key = this.#keys.get(name) ?? createSecretKey(deriveKey(secret, purpose));
    this.#keys.set(name, key);
    return key;
  }
}
