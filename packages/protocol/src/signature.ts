import { createHmac, hash, type KeyObject, timingSafeEqual } from "node:crypto";

/**
 * The signature between hub and runtime broker (spec/01 section 2), the same in both directions: HMAC-SHA256 with the
 * runtime broker's secret over method, path, query, time, nonce and a hash of the body.
 */

/** Header names in the spelling that goes over the wire; HTTP compares them without case. */
export const SIGNATURE_HEADERS = {
  brokerId: "X-Scion-Broker-ID",
  timestamp: "X-Scion-Timestamp",
  nonce: "X-Scion-Nonce",
  signature: "X-Scion-Signature",
  signedHeaders: "X-Scion-Signed-Headers",
} as const;

/** How far the clocks of the two ends may differ, in seconds. */
export const SIGNATURE_MAX_SKEW_SECONDS = 300;

/** What is signed. The runtime broker's id is not part of it: it only selects the key. */
export interface SignedRequest {
  readonly method: string;
  /** Percent-decoded path. */
  readonly path: string;
  /** Raw query without `?`; empty when there is none. */
  readonly query: string;
  /** Unix seconds, decimal. */
  readonly timestamp: string;
  readonly nonce: string;
  /** `name` and value of each header listed in `X-Scion-Signed-Headers`, in its order. */
  readonly headers?: readonly (readonly [name: string, value: string])[];
  readonly body: Uint8Array;
}

/**
 * The shared secret. A `KeyObject` where it is used more than once: from bytes the crypto library makes a key for every
 * signature, which costs several times what signing does.
 */
export type SigningKey = KeyObject | Uint8Array;

/** The text that the signature covers (spec/01 2.2). */
export const canonicalText = (r: SignedRequest): string => {
  let text = `${r.method}\n${r.path}\n${r.query}\n${r.timestamp}\n${r.nonce}\n`;
  for (const [name, value] of r.headers ?? []) text += `${name.toLowerCase()}:${value.trim()}\n`;
  return r.body.byteLength === 0 ? text : text + hash("sha256", r.body, "base64");
};

/** The signature of `request`, standard base64. */
export const signRequest = (secret: SigningKey, request: SignedRequest): string =>
  createHmac("sha256", secret).update(canonicalText(request)).digest("base64");

/** Whether `signature` is that of `request`, in a time that does not depend on where the two differ. */
export const verifySignature = (secret: SigningKey, request: SignedRequest, signature: string): boolean => {
  const expected = Buffer.from(signRequest(secret, request));
  const given = Buffer.from(signature);
  return expected.byteLength === given.byteLength && timingSafeEqual(expected, given);
};

/** A fresh nonce from 16 random bytes: url-safe base64 with padding. */
export const encodeNonce = (bytes: Uint8Array): string =>
  padded(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64url"));

const padded = (base64: string): string => base64.padEnd(Math.ceil(base64.length / 4) * 4, "=");

/** The four headers of a signed request. `path` is the encoded path as it is sent. */
export const signatureHeaders = (p: {
  readonly brokerId: string;
  readonly secret: SigningKey;
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly body: Uint8Array;
  /** Milliseconds since the Unix epoch. */
  readonly now: number;
  readonly nonce: Uint8Array;
}): Record<string, string> => {
  const timestamp = String(Math.floor(p.now / 1000));
  const nonce = encodeNonce(p.nonce);
  const { method, query, body } = p;
  const path = p.path.includes("%") ? decodeURIComponent(p.path) : p.path;
  const signature = signRequest(p.secret, { method, path, query, timestamp, nonce, body });
  return {
    [SIGNATURE_HEADERS.brokerId]: p.brokerId,
    [SIGNATURE_HEADERS.timestamp]: timestamp,
    [SIGNATURE_HEADERS.nonce]: nonce,
    [SIGNATURE_HEADERS.signature]: signature,
  };
};
