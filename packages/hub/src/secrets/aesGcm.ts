import { createCipheriv, createDecipheriv, type KeyObject } from "node:crypto";
import type { Random } from "@rootstock/service";
import { SecretBoxError } from "./errors.ts";

const CIPHER = "aes-256-gcm";
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** What stands before the ciphertext: nonce and tag. */
export const OVERHEAD_BYTES = NONCE_BYTES + TAG_BYTES;

/** Encrypts with AES-256-GCM under a random nonce; `context` is authenticated along. Layout: nonce, tag, ciphertext. */
export const encrypt = (key: KeyObject, random: Random, context: string, plain: Uint8Array): Buffer => {
  const nonce = random.bytes(NONCE_BYTES);
  const cipher = createCipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(Buffer.from(context));
  const text = Buffer.concat([cipher.update(plain), cipher.final()]);
  return Buffer.concat([nonce, cipher.getAuthTag(), text]);
};

/** What was encrypted under this key and context. Throws {@link SecretBoxError}. */
export const decrypt = (key: KeyObject, context: string, sealed: Uint8Array): Buffer => {
  if (sealed.byteLength < OVERHEAD_BYTES) throw new SecretBoxError("sealed value too short");
  const decipher = createDecipheriv(CIPHER, key, sealed.subarray(0, NONCE_BYTES), { authTagLength: TAG_BYTES });
  decipher.setAAD(Buffer.from(context));
  decipher.setAuthTag(sealed.subarray(NONCE_BYTES, OVERHEAD_BYTES));
  try {
    return Buffer.concat([decipher.update(sealed.subarray(OVERHEAD_BYTES)), decipher.final()]);
  } catch (cause) {
    throw new SecretBoxError("sealed value does not belong to this key and row", { cause });
  }
};
