import { randomBytes } from "node:crypto";
import { SIGNATURE_HEADERS, SIGNATURE_MAX_SKEW_SECONDS, signatureHeaders, verifySignature } from "@rootstock/protocol";
import { systemClock } from "@rootstock/service";
import type { ReceivedRequest } from "../simulatedAgents.ts";
import type { SimulatedCredentials } from "./join.ts";

/** The headers of a signed request (spec/01 2.1). */
export const signedHeaders = (
  credentials: SimulatedCredentials,
  request: { readonly method: string; readonly path: string; readonly query: string; readonly body: Uint8Array },
): Record<string, string> =>
  signatureHeaders({
    ...request,
    brokerId: credentials.brokerId,
    secret: Buffer.from(credentials.secretKey, "base64"),
    now: systemClock.now(),
    nonce: randomBytes(16),
  });

/** Strict: unsigned requests are refused, every configured key is tried, nonces are not remembered (spec/01 2.4). */
export const isSigned = (request: ReceivedRequest, keys: readonly string[]): boolean => {
  const header = (name: string) => request.headers[name.toLowerCase()] ?? "";
  const timestamp = header(SIGNATURE_HEADERS.timestamp);
  if (!header(SIGNATURE_HEADERS.brokerId)) return false;
  if (Math.abs(systemClock.now() / 1000 - Number(timestamp)) > SIGNATURE_MAX_SKEW_SECONDS) return false;
  const signed = {
    method: request.method,
    path: decodeURIComponent(request.path),
    query: request.rawQuery,
    timestamp,
    nonce: header(SIGNATURE_HEADERS.nonce),
    body: request.body,
  };
  return keys.some((key) => verifySignature(Buffer.from(key, "base64"), signed, header(SIGNATURE_HEADERS.signature)));
};
