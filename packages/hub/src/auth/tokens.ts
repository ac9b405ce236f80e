import { createHash, createSecretKey, type KeyObject, timingSafeEqual } from "node:crypto";
import { parseUuid, type Uuid } from "@rootstock/protocol";
import type { Clock, Random } from "@rootstock/service";
import { errors, type JWTPayload, jwtVerify, SignJWT } from "jose";
import { agentSigningKey, deriveKey } from "./keys.ts";

const ISSUER = "scion-hub";
const AUDIENCE = "scion-hub-api";
/** How far clocks may differ when a token's times are judged, in seconds (spec/03 1.1). */
const LEEWAY_SECONDS = 60;
/** How long an agent's token lasts, in seconds (spec/03 1.2). */
export const AGENT_TOKEN_SECONDS = 10 * 3600;
const REPLICA_TOKEN_SECONDS = 30;

/** A token that proves nothing; `message` is the reason, fit for the caller. */
export class TokenError extends Error {
  override readonly name = "TokenError";
}

/** What an agent's token says. Whether the agent still has these rights is for its row to tell. */
export interface AgentClaims {
  readonly agentId: Uuid;
  readonly projectId: Uuid | undefined;
  readonly scopes: readonly string[];
  /** Root user first, direct parent last. */
  readonly ancestry: readonly string[];
  /** Must equal the row's; a token of the original has none and counts as 1. */
  readonly tokenVersion: number;
  /** The container run that the token was issued for; undefined for one that was issued for none. */
  readonly runId?: Uuid | undefined;
}

export interface IssuedToken {
  readonly token: string;
  readonly expiresAt: Date;
}

interface TokenBase {
  readonly clock: Clock;
  readonly random: Random;
}

const texts = (value: unknown): string[] =>
  Array.isArray(value) ? value.filter((v): v is string => typeof v === "string") : [];

const verify = async (
  clock: Clock,
  key: KeyObject,
  token: string,
  expected: { readonly issuer: string; readonly audience: string },
): Promise<JWTPayload> => {
  try {
    const { payload } = await jwtVerify(token, key, {
      ...expected,
      algorithms: ["HS256"],
      clockTolerance: LEEWAY_SECONDS,
      currentDate: new Date(clock.now()),
      requiredClaims: ["sub", "exp"],
    });
    return payload;
  } catch (cause) {
    throw new TokenError(reasonOf(cause), { cause });
  }
};

const reasonOf = (err: unknown): string => {
  if (err instanceof errors.JWTExpired) return "token expired";
  if (err instanceof errors.JWSSignatureVerificationFailed) return "signature verification failed";
  if (err instanceof errors.JOSEAlgNotAllowed) return "algorithm not allowed";
  if (err instanceof errors.JWTClaimValidationFailed) return `claim ${err.claim} refused`;
  return "malformed token";
};

/** Issues and reads the tokens that agents carry (spec/03 1.2). */
export class AgentTokens {
  readonly #base: TokenBase;
  readonly #key: KeyObject;

  constructor(rootSecret: string, base: TokenBase) {
    this.#base = base;
    this.#key = createSecretKey(agentSigningKey(rootSecret));
  }

  /** A token for ten hours. `exp` is an integer: the agents' tool schedules its refresh from it. */
  async issue(claims: AgentClaims): Promise<IssuedToken> {
    const now = Math.floor(this.#base.clock.now() / 1000);
    const exp = now + AGENT_TOKEN_SECONDS;
    const token = await new SignJWT({
      ...(claims.projectId && { project_id: claims.projectId }),
      ...(claims.scopes.length > 0 && { scopes: claims.scopes }),
      ...(claims.ancestry.length > 0 && { ancestry: claims.ancestry }),
      tv: claims.tokenVersion,
      ...(claims.runId && { run: claims.runId }),
    })
      .setProtectedHeader({ alg: "HS256", typ: "JWT" })
      .setIssuer(ISSUER)
      .setSubject(claims.agentId)
      .setAudience(AUDIENCE)
      .setIssuedAt(now)
      .setNotBefore(now)
      .setExpirationTime(exp)
      .setJti(this.#base.random.bytes(16).toString("base64url"))
      .sign(this.#key);
    return { token, expiresAt: new Date(exp * 1000) };
  }

  /** What a token with a good signature, issuer, audience and time says. Throws `TokenError`. */
  async verify(token: string): Promise<AgentClaims> {
    const payload = await verify(this.#base.clock, this.#key, token, { issuer: ISSUER, audience: AUDIENCE });
    const agentId = parseUuid(payload.sub ?? "");
    if (!agentId) throw new TokenError("claim sub refused");
    const version = payload.tv ?? 1;
    if (typeof version !== "number") throw new TokenError("claim tv refused");
    return {
      agentId,
      projectId: typeof payload.project_id === "string" ? parseUuid(payload.project_id) : undefined,
      scopes: texts(payload.scopes),
      ancestry: texts(payload.ancestry),
      tokenVersion: version,
      runId: typeof payload.run === "string" ? parseUuid(payload.run) : undefined,
    };
  }
}

const REPLICA_ISSUER = "rootstock-replica";

/** What one replica shows another (design section 8): short-lived, and good at the replica that it names only. */
export class ReplicaTokens {
  readonly #base: TokenBase;
  readonly #key: KeyObject;
  readonly #instanceId: Uuid;

  constructor(rootSecret: string, instanceId: Uuid, base: TokenBase) {
    this.#base = base;
    this.#instanceId = instanceId;
    this.#key = createSecretKey(deriveKey(rootSecret, "replica-to-replica"));
  }

  /** A token for calls to the replica `audience`, good for 30 seconds. */
  issue(audience: Uuid): Promise<string> {
    const now = Math.floor(this.#base.clock.now() / 1000);
    return new SignJWT()
      .setProtectedHeader({ alg: "HS256", typ: "JWT" })
      .setIssuer(REPLICA_ISSUER)
      .setSubject(this.#instanceId)
      .setAudience(audience)
      .setIssuedAt(now)
      .setExpirationTime(now + REPLICA_TOKEN_SECONDS)
      .sign(this.#key);
  }

  /** The instance id of the replica that calls. Throws `TokenError`. */
  async verify(token: string): Promise<Uuid> {
    const payload = await verify(this.#base.clock, this.#key, token, {
      issuer: REPLICA_ISSUER,
      audience: this.#instanceId,
    });
    const instanceId = parseUuid(payload.sub ?? "");
    if (!instanceId) throw new TokenError("claim sub refused");
    return instanceId;
  }
}

/** A fixed token from the configuration, compared in a time that tells nothing about it. */
export class FixedToken {
  readonly #digest: Buffer;

  constructor(token: string) {
    this.#digest = digest(token);
  }

  /** Whether `given` is this token. */
  matches(given: string): boolean {
    return timingSafeEqual(this.#digest, digest(given));
  }
}

const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
