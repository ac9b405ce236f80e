import { createHash, createPrivateKey, createSecretKey, hkdfSync, type KeyObject } from "node:crypto";
import type { SealedPurpose } from "@rootstock/store";
import type { RootSecrets } from "./rootSecrets.ts";

/** What is sealed in the database: values that stay, which `rewrap` goes through, and what lies there for a moment. */
export type BoxPurpose = SealedPurpose | "stream-frame";

/** What a key derived from `ROOTSTOCK_SECRET` is for. Each purpose has a key of its own, so that none opens another's. */
export type KeyPurpose =
  | BoxPurpose
  | "replica-to-replica"
  | "data-keys"
  | "token-signing"
  | "browser-session"
  | "browser-sign-in";

const KEY_BYTES = 32;
const KID_BYTES = 9;

/** The 32-byte key for one purpose: HKDF-SHA256 of a shared secret. The same on every replica. */
export const deriveKey = (rootSecret: string, purpose: KeyPurpose): Buffer => derive(rootSecret, purpose, KEY_BYTES);

const derive = (rootSecret: string, info: string, bytes: number): Buffer =>
  Buffer.from(hkdfSync("sha256", rootSecret, "rootstock/v1", `rootstock/${info}`, bytes));

/** A name for the key of a purpose that says nothing about the key: what it made can be told from what others made. */
export const keyName = (rootSecret: string, purpose: string): string =>
  derive(rootSecret, `name of ${purpose}`, KID_BYTES).toString("base64url");

/** One version of a symmetric key. */
export interface VersionedKey {
  readonly kid: string;
  readonly alg: "HS256";
  readonly key: KeyObject;
}

/** The versions of a key, one for each shared secret: the first signs, all verify. */
export type VersionedKeys = readonly [VersionedKey, ...VersionedKey[]];

const versions = (secrets: RootSecrets, make: (secret: string) => VersionedKey): VersionedKeys => {
  const [first, ...former] = secrets;
  return [make(first), ...former.map(make)];
};

/** The symmetric keys for one purpose. */
export const derivedKeys = (secrets: RootSecrets, purpose: KeyPurpose): VersionedKeys =>
  versions(secrets, (secret) => ({
    kid: keyName(secret, purpose),
    alg: "HS256",
    key: createSecretKey(deriveKey(secret, purpose)),
  }));

/** Whose tokens the original signs with a key of its own (spec/03 section 4). */
export type OriginalKey = "user_signing_key" | "agent_signing_key";

/**
 * The keys of tokens whose format clients fix (spec/03 1.1, 1.2). Not derived as the others are: what an original hub
 * with the same shared secret has issued must stay valid.
 */
export const originalKeys = (secrets: RootSecrets, name: OriginalKey): VersionedKeys =>
  versions(secrets, (secret) => ({
    kid: keyName(secret, name),
    alg: "HS256",
    key: createSecretKey(createHash("sha256").update(`scion-hub-signing-key:${name}:${secret}`).digest()),
  }));

/** What comes before the 32 bytes of an Ed25519 key in PKCS #8 (RFC 8410). */
const ED25519_PKCS8_HEAD = Buffer.from("302e020100300506032b657004220420", "hex");

/** The Ed25519 private key of a shared secret: any 32 bytes are one, so it is derived like every other key. */
export const derivedEd25519Key = (rootSecret: string): KeyObject =>
  createPrivateKey({
    key: Buffer.concat([ED25519_PKCS8_HEAD, deriveKey(rootSecret, "token-signing")]),
    format: "der",
    type: "pkcs8",
  });
