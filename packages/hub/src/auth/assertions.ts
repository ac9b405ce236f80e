import { HubError } from "@rootstock/protocol";
import type { Clock, Log } from "@rootstock/service";
import { errors, type JWTPayload, jwtVerify } from "jose";
import {
  GOOGLE_ISSUER,
  IAP_ISSUER,
  type ProvenIdentity,
  parseAvatarUrl,
  parseDisplayName,
  parseEmail,
  parseHostedDomain,
} from "../people/index.ts";
import { TokenError } from "./jwt.ts";
import { KeySet } from "./keySet.ts";

/** A proxy that signs who it lets through, and how that is checked (spec/03 3.6). */
export interface AssertionRules {
  /** Carries the assertion. */
  readonly header: string;
  /** Exactly this. */
  readonly issuer: string;
  /** One of the token's audiences, exactly. */
  readonly audience: string;
  readonly jwksUrl: string;
  readonly algorithms: readonly string[];
  /** Whether it writes before a name whose it is, as Identity-Aware Proxy does: what is before Google's is left out. */
  readonly namesGoogleAccounts?: boolean;
}

/** The defaults of Google's Identity-Aware Proxy. */
export const IAP = {
  header: "X-Goog-IAP-JWT-Assertion",
  issuer: IAP_ISSUER,
  jwksUrl: "https://www.gstatic.com/iap/verify/public_key-jwk",
  algorithms: ["ES256"],
  namesGoogleAccounts: true,
} as const;

/** What a proxy of another make may sign with: no algorithm whose key could sign as well as verify. */
export const ASSERTION_ALGORITHMS: readonly string[] = ["ES256", "ES384", "RS256", "RS384", "RS512", "PS256", "EdDSA"];

const LEEWAY_SECONDS = 30;
/** Google writes its accounts so in an IAP assertion. */
const GOOGLE_PREFIX = "accounts.google.com:";

export interface AssertionVerifierOptions {
  readonly rules: AssertionRules;
  readonly clock: Clock;
  readonly log: Log;
  readonly fetch: typeof fetch;
}

/** Reads the assertions of one proxy. */
export class AssertionVerifier {
  readonly #options: AssertionVerifierOptions;
  readonly #keys: KeySet;

  constructor(options: AssertionVerifierOptions) {
    this.#options = options;
    this.#keys = new KeySet({ ...options, url: options.rules.jwksUrl });
  }

  get header(): string {
    return this.#options.rules.header;
  }

  /** Whom a proxy vouches for. Throws {@link TokenError}, or 503 while no keys can be had. */
  async verify(token: string): Promise<ProvenIdentity> {
    const { issuer, namesGoogleAccounts } = this.#options.rules;
    const claims = await this.claims(token);
    return namesGoogleAccounts ? iapIdentityOf(claims, issuer) : identityOf(claims, issuer);
  }

  /** What a token says whose signature, issuer, audience and times are right. Throws as {@link verify}. */
  async claims(token: string): Promise<JWTPayload> {
    const now = this.#options.clock.now();
    const payload = await this.#payload(token, now);
    if (payload.iat !== undefined && payload.iat > now / 1000 + LEEWAY_SECONDS)
      throw new TokenError("issued in the future");
    return payload;
  }

  async #payload(token: string, now: number): Promise<JWTPayload> {
    const { rules } = this.#options;
    try {
      const { payload } = await jwtVerify(token, this.#keys.key, {
        issuer: rules.issuer,
        audience: rules.audience,
        algorithms: [...rules.algorithms],
        clockTolerance: LEEWAY_SECONDS,
        currentDate: new Date(now),
        requiredClaims: ["sub", "exp"],
      });
      return payload;
    } catch (cause) {
      // Nobody can be told from anybody else for now: no fault of the caller.
      if (cause instanceof errors.JWKSTimeout)
        throw new HubError("unavailable", "the keys of the proxy before this hub cannot be had", {
          retryAfter: 5,
          cause,
        });
      throw new TokenError(reasonOf(cause), { cause });
    }
  }
}

/** The person in the claims of an ID token or assertion, verified by now. Throws {@link TokenError}. */
export const identityOf = (payload: JWTPayload, issuer: string): ProvenIdentity => {
  const subject: unknown = payload.sub;
  if (typeof subject !== "string" || subject === "" || subject.length > 255) throw new TokenError("claim sub refused");
  const email = parseEmail(payload.email);
  if (!email) throw new TokenError("claim email refused");
  if (payload.email_verified === false || payload.email_verified === "false")
    throw new TokenError("the address is not verified");
  return {
    issuer,
    subject,
    email,
    displayName: parseDisplayName(payload.name) || email.slice(0, email.indexOf("@")),
    avatarUrl: parseAvatarUrl(payload.picture),
    hostedDomain: parseHostedDomain(payload.hd),
  };
};

/**
 * The same of an assertion of Identity-Aware Proxy, which writes the directory before what that calls somebody. An account
 * of Google's is Google's, so that people are the same on pages behind the proxy and where they come with Google's OAuth.
 * Only Google's own proxy is believed that: whoever else is configured to speak as it does names people of their own.
 */
const iapIdentityOf = (payload: JWTPayload, issuer: string): ProvenIdentity => {
  const { sub, email } = payload;
  const isGoogles = typeof sub === "string" && (sub.startsWith(GOOGLE_PREFIX) || !sub.includes(":"));
  return identityOf(
    { ...payload, ...(isGoogles && { sub: withoutPrefix(sub) }), email: withoutPrefix(email) },
    isGoogles && issuer === IAP_ISSUER ? GOOGLE_ISSUER : issuer,
  );
};

const withoutPrefix = <T>(claim: T): T | string =>
  typeof claim === "string" && claim.startsWith(GOOGLE_PREFIX) ? claim.slice(GOOGLE_PREFIX.length) : claim;

/** Why jose refused a token, in words that tell the caller no more than they know. */
export const reasonOf = (err: unknown): string => {
  if (err instanceof errors.JWTExpired) return "token expired";
  if (err instanceof errors.JWSSignatureVerificationFailed) return "signature verification failed";
  if (err instanceof errors.JOSEAlgNotAllowed) return "algorithm not allowed";
  if (err instanceof errors.JWTClaimValidationFailed) return `claim ${err.claim} refused`;
  if (err instanceof errors.JWKSNoMatchingKey) return "unknown key";
  return "malformed token";
};
