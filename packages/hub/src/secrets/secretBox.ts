import { createCipheriv, createDecipheriv } from "node:crypto";
import type { Random } from "@rootstock/service";
import { deriveKey, type KeyPurpose } from "./keys.ts";
import type { RootSecrets } from "./rootSecrets.ts";

const VERSION = 1;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const HEAD_BYTES = 1 + NONCE_BYTES + TAG_BYTES;
const CIPHER = "aes-256-gcm";

/** A sealed value that cannot be opened: changed, cut, moved to another row, or sealed under another shared secret. */
export class SecretBoxError extends Error {
  override readonly name = "SecretBoxError";
}

/**
 * Encrypts what is secret at rest (AES-256-GCM, a key per purpose). Purpose and row are authenticated along with the
 * value: a sealed value copied into another row does not open there. Layout: version, nonce, tag, ciphertext.
 */
export class SecretBox {
  readonly #secrets: RootSecrets;
  readonly #random: Random;
  readonly #keys = new Map<string, Buffer>();

  constructor(secrets: RootSecrets, random: Random) {
    this.#secrets = secrets;
    this.#random = random;
  }

  /** The sealed form of `plain` for the row `rowId`; different at every call. */
  seal(purpose: KeyPurpose, rowId: string, plain: Uint8Array): Buffer {
    const nonce = this.#random.bytes(NONCE_BYTES);
    const cipher = createCipheriv(CIPHER, this.#key(this.#secrets[0], purpose), nonce, { authTagLength: TAG_BYTES });
    cipher.setAAD(associatedData(purpose, rowId));
    const text = Buffer.concat([cipher.update(plain), cipher.final()]);
    return Buffer.concat([Buffer.of(VERSION), nonce, cipher.getAuthTag(), text]);
  }

  /** What was sealed for this purpose and row. Throws `SecretBoxError`. */
  open(purpose: KeyPurpose, rowId: string, sealed: Uint8Array): Buffer {
    if (sealed.byteLength < HEAD_BYTES) throw new SecretBoxError("sealed value too short");
    if (sealed[0] !== VERSION) throw new SecretBoxError("sealed value of an unknown version");
    let refusal: unknown;
    for (const secret of this.#secrets) {
      try {
        return open(this.#key(secret, purpose), purpose, rowId, sealed);
      } catch (cause) {
        refusal = cause;
      }
    }
    throw new SecretBoxError("sealed value does not belong to this key and row", { cause: refusal });
  }

  #key(secret: string, purpose: KeyPurpose): Buffer {
    const name = `${purpose} ${secret}`;
    const known = this.#keys.get(name);
    if (known) return known;
    const key = deriveKey(secret, purpose);
    this.#keys.set(name, key);
    return key;
  }
}

const open = (key: Buffer, purpose: KeyPurpose, rowId: string, sealed: Uint8Array): Buffer => {
  const nonce = sealed.subarray(1, 1 + NONCE_BYTES);
  const decipher = createDecipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(associatedData(purpose, rowId));
  decipher.setAuthTag(sealed.subarray(1 + NONCE_BYTES, HEAD_BYTES));
  return Buffer.concat([decipher.update(sealed.subarray(HEAD_BYTES)), decipher.final()]);
};

const associatedData = (purpose: KeyPurpose, rowId: string): Buffer =>
  Buffer.from(`${VERSION}\u0000${purpose}\u0000${rowId}`);
