import { timingSafeEqual } from "node:crypto";
import { parseUuid, type Uuid } from "@rootstock/protocol";
import type { Clock, Random } from "@rootstock/service";
import { SignJWT } from "jose";
import { originalKeys, type RootSecrets, type VersionedKeys } from "../secrets/index.ts";
import { endOf, TokenError, verifyJwt } from "./jwt.ts";

const ISSUER = "scion-hub";
const AUDIENCE = "scion-hub-api";
/** How long an agent's token lasts, in seconds (spec/03 1.2). */
export const AGENT_TOKEN_SECONDS = 10 * 3600;

/** What an agent's token says. Whether the agent still has these rights is for its row to tell. */
export interface AgentClaims {
  readonly agentId: Uuid;
  readonly projectId: Uuid | undefined;
  readonly scopes: readonly string[];
  /** Root user first, direct parent last. */
  readonly ancestry: readonly Uuid[];
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

/** The ids among them, as they are stored: whoever is named otherwise is nobody. */
const ids = (value: unknown): Uuid[] => texts(value).flatMap((text) => parseUuid(text) ?? []);

/** Issues and reads the tokens that agents carry (spec/03 1.2). */
export class AgentTokens {
  readonly #base: TokenBase;
  readonly #keys: VersionedKeys;

  constructor(secrets: RootSecrets, base: TokenBase) {
    this.#base = base;
    this.#keys = originalKeys(secrets, "agent_signing_key");
  }

  /** A token for ten hours. `exp` is an integer: the agents' tool schedules its refresh from it. */
  async issue(claims: AgentClaims): Promise<IssuedToken> {
    const now = Math.floor(this.#base.clock.now() / 1000);
    const exp = now + AGENT_TOKEN_SECONDS;
    const [{ alg, kid, key }] = this.#keys;
    const token = await new SignJWT({
      ...(claims.projectId && { project_id: claims.projectId }),
      ...(claims.scopes.length > 0 && { scopes: claims.scopes }),
      ...(claims.ancestry.length > 0 && { ancestry: claims.ancestry }),
      tv: claims.tokenVersion,
      ...(claims.runId && { run: claims.runId }),
    })
      .setProtectedHeader({ alg, typ: "JWT", kid })
      .setIssuer(ISSUER)
      .setSubject(claims.agentId)
      .setAudience(AUDIENCE)
      .setIssuedAt(now)
      .setNotBefore(now)
      .setExpirationTime(exp)
      .setJti(this.#base.random.bytes(16).toString("base64url"))
      .sign(key);
    return { token, expiresAt: new Date(exp * 1000) };
  }

  /**
   * What a token with a good signature, issuer, audience and time says, and until when (see {@link endOf}). Throws
   * `TokenError`.
   */
  async verify(token: string): Promise<AgentClaims & { readonly until: number }> {
    const payload = await verifyJwt(this.#base.clock, this.#keys, token, { issuer: ISSUER, audience: AUDIENCE });
    const agentId = parseUuid(payload.sub ?? "");
    if (!agentId) throw new TokenError("claim sub refused");
    const version = payload.tv ?? 1;
    if (typeof version !== "number") throw new TokenError("claim tv refused");
    return {
      agentId,
      projectId: typeof payload.project_id === "string" ? parseUuid(payload.project_id) : undefined,
      scopes: texts(payload.scopes),
      ancestry: ids(payload.ancestry),
      tokenVersion: version,
      runId: typeof payload.run === "string" ? parseUuid(payload.run) : undefined,
      until: endOf(this.#base.clock, payload),
    };
  }
}

/** A fixed token from the configuration, compared in a time that tells nothing about it. */
export class FixedToken {
  readonly #bytes: Buffer;

  constructor(token: string) {
    this.#bytes = Buffer.from(token);
  }

  /** Whether `given` is this token. Its length is no secret. */
  matches(given: string): boolean {
    const bytes = Buffer.from(given);
    return bytes.byteLength === this.#bytes.byteLength && timingSafeEqual(this.#bytes, bytes);
  }
}
