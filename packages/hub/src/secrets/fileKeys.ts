import { createSecretKey } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Random } from "@rootstock/service";
import { z } from "zod";
import { type KeyManagement, type LocalKey, unwrapLocally, type WrappedKey, wrapLocally } from "./keyManagement.ts";

const PREFIX = "file:";
const KEY_BYTES = 32;

/** A file of keys cannot be used; the message names the file and quotes nothing of it. */
export class KeyFileError extends Error {
  override readonly name = "KeyFileError";
}

const base64Key = z
  .string()
  .transform((text) => Buffer.from(text, "base64"))
  .refine((key) => key.byteLength === KEY_BYTES, `a key must be ${KEY_BYTES} bytes in base64`);

const keyFile = z.object({
  keys: z
    .array(
      z.object({
        id: z.string().regex(/^[A-Za-z0-9._-]{1,100}$/, "an id is 1 to 100 of A-Z a-z 0-9 . _ -"),
        key: base64Key,
      }),
    )
    .min(1, "there must be at least one key")
    .refine((keys) => new Set(keys.map((k) => k.id)).size === keys.length, "two keys have the same id"),
});

type Keys = readonly [LocalKey, ...LocalKey[]];

const readKeys = (path: string): Keys => {
  const parsed = keyFile.safeParse(contentOf(path));
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new KeyFileError(`${path}: ${issue?.path.join(".")}: ${issue?.message}`);
  }
  const [first, ...former] = parsed.data.keys.map(({ id, key }) => ({ id: PREFIX + id, key: createSecretKey(key) }));
  if (!first) throw new KeyFileError(`${path}: there must be at least one key`);
  return [first, ...former];
};

/** Throws {@link KeyFileError} for a file that {@link FileKeys} could not use. */
export const checkKeyFile = (path: string): void => void readKeys(path);

const contentOf = (path: string): unknown => {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    throw new KeyFileError(`${path} cannot be read`, { cause });
  }
  try {
    return JSON.parse(text);
  } catch {
    // Without its cause: that quotes the text.
    throw new KeyFileError(`${path} is no JSON`);
  }
};

/**
 * Wraps data keys under keys of a file, `{"keys": [{"id": "2026-11", "key": "<32 bytes, base64>"}, …]}`: the first wraps,
 * all unwrap. The file is the place of a key service where there is none, kept apart from the database and from
 * `ROOTSTOCK_SECRET`. Read once, when it is made. Throws {@link KeyFileError}.
 */
export class FileKeys implements KeyManagement {
  readonly #keys: Keys;
  readonly #random: Random;

  constructor(path: string, random: Random) {
    this.#keys = readKeys(path);
    this.#random = random;
  }

  get wrapsWith(): string {
    return this.#keys[0].id;
  }

  async wrap(dataKey: Uint8Array, purpose: string): Promise<WrappedKey> {
    return wrapLocally(this.#keys[0], this.#random, dataKey, purpose);
  }

  keeps(keyId: string): boolean {
    return this.#keys.some((k) => k.id === keyId);
  }

  async unwrap(wrapped: WrappedKey, purpose: string): Promise<Buffer> {
    return unwrapLocally(this.#keys, wrapped, purpose);
  }
}
