import type { KeyObject } from "node:crypto";
import type { Clock } from "@rootstock/service";
import { decodeProtectedHeader, errors, type JWTPayload, jwtVerify } from "jose";

/** How far clocks may differ when a token's times are judged, in seconds (spec/03 1.1). */
const LEEWAY_SECONDS = 60;

/** A token that proves nothing; `message` is the reason, fit for the caller. */
export class TokenError extends Error {
  override readonly name = "TokenError";
}

/** A key that a token may have been signed with. It verifies that algorithm's signatures and no other's. */
export interface VerifyingKey {
  readonly kid: string;
  readonly alg: "HS256" | "EdDSA";
  readonly key: KeyObject;
}

/** What a token must say to be the right one. */
export interface ExpectedToken {
  readonly issuer: string;
  readonly audience: string;
  /** The header's type, where several kinds of token are signed with one key. */
  readonly typ?: string;
}

/**
 * What a token says whose signature is one of these keys', and whose issuer, audience and times are right. The header's
 * `kid` finds the key; without one that is known, as in tokens of the original, the keys are tried in order. Throws
 * {@link TokenError}.
 */
export const verifyJwt = async (
  clock: Clock,
  keys: readonly VerifyingKey[],
  token: string,
  expected: ExpectedToken,
): Promise<JWTPayload> => {
  let refusal = new TokenError("algorithm not allowed");
  for (const { alg, key } of candidates(keys, token)) {
    try {
      const { payload } = await jwtVerify(token, key, {
        ...expected,
        algorithms: [alg],
        clockTolerance: LEEWAY_SECONDS,
        currentDate: new Date(clock.now()),
        requiredClaims: ["sub", "exp"],
      });
      return payload;
    } catch (cause) {
      refusal = new TokenError(reasonOf(cause), { cause });
      if (!(cause instanceof errors.JWSSignatureVerificationFailed)) break;
    }
  }
  throw refusal;
};

/**
 * When a token with these claims, which was let in, ends what was begun with it, in milliseconds since 1970: with its time,
 * and for one that was let in after it for the sake of clocks that differ, with the leeway.
 */
export const endOf = (clock: Clock, { exp = 0 }: JWTPayload): number =>
  exp * 1000 > clock.now() ? exp * 1000 : (exp + LEEWAY_SECONDS) * 1000;

const candidates = (keys: readonly VerifyingKey[], token: string): readonly VerifyingKey[] => {
  const { alg, kid } = headerOf(token);
  const fitting = keys.filter((k) => k.alg === alg);
  const named = fitting.filter((k) => k.kid === kid);
  return named.length > 0 ? named : fitting;
};

const headerOf = (token: string): { readonly alg?: unknown; readonly kid?: unknown } => {
  try {
    return decodeProtectedHeader(token);
  } catch (cause) {
    throw new TokenError("malformed token", { cause });
  }
};

const reasonOf = (err: unknown): string => {
  if (err instanceof errors.JWTExpired) return "token expired";
  if (err instanceof errors.JWSSignatureVerificationFailed) return "signature verification failed";
  if (err instanceof errors.JOSEAlgNotAllowed) return "algorithm not allowed";
  if (err instanceof errors.JWTClaimValidationFailed) return `claim ${err.claim} refused`;
  return "malformed token";
};
