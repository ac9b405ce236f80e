import { createHash } from "node:crypto";
import { parseUuid, type Uuid } from "@rootstock/protocol";
import type { Clock, Random } from "@rootstock/service";
import type { SignInClient, UserStanding } from "@rootstock/store";
import { decodeJwt, type JWTPayload, SignJWT } from "jose";
import { originalKeys, type RootSecrets, type VersionedKeys } from "../secrets/index.ts";
import { endOf, TokenError, verifyJwt } from "./jwt.ts";

const ISSUER = "scion-hub";
const AUDIENCE = "scion-hub-api";
const TEST_LOGIN_AUDIENCE = "scion-test-login";
const DAY_SECONDS = 86_400;

/** How long access tokens last, in seconds (spec/03 1.1). */
export const accessSeconds = (client: SignInClient): number => (client === "cli" ? 30 * DAY_SECONDS : 900);
/** How long refresh tokens last, in seconds: always longer than the access token beside them. */
export const refreshSeconds = (client: SignInClient): number => accessSeconds(client) + 7 * DAY_SECONDS;

/** What a user's token says. Whether it still counts is for the rows to tell. */
export interface UserClaims {
  readonly userId: Uuid;
  readonly kind: "access" | "refresh";
  readonly client: SignInClient;
  /** Must equal the user's; a token of the original has none and counts as 1. */
  readonly tokenVersion: number;
  /** Undefined for an access token that no sign-in of this hub has made. */
  readonly signInId: Uuid | undefined;
  /** Of a refresh token: how often the sign-in had been refreshed, from 1. */
  readonly generation: number;
  readonly expiresAt: Date;
  /** When what was begun with it ends: see {@link endOf}. */
  readonly until: number;
  /** Whether an original hub has made it. */
  readonly legacy: boolean;
}

/** What a token is issued for. */
export interface TokenSubject {
  readonly user: UserStanding;
  readonly client: SignInClient;
  readonly signInId: Uuid;
  readonly generation: number;
}

/** Tokens as clients store them (spec/03 3.1). */
export interface TokenPair {
  readonly accessToken: string;
  readonly refreshToken: string;
  /** Of the access token, in seconds. */
  readonly expiresIn: number;
  /** The same as a time: some clients read the one, some the other. */
  readonly expiresAt: Date;
}

interface TokenBase {
  readonly clock: Clock;
  readonly random: Random;
}

/** Issues and reads the tokens that people carry (spec/03 1.1). Their format is the clients'. */
export class UserTokens {
  readonly #base: TokenBase;
  readonly #keys: VersionedKeys;

  constructor(secrets: RootSecrets, base: TokenBase) {
    this.#base = base;
    this.#keys = originalKeys(secrets, "user_signing_key");
  }

  /** An access token and the refresh token that goes with it. */
  async issue(subject: TokenSubject): Promise<TokenPair> {
    const { client } = subject;
    const expiresIn = accessSeconds(client);
    const [accessToken, refreshToken] = await Promise.all([
      this.#sign(subject, client === "cli" ? "cli" : "access", expiresIn, {}),
      this.#sign(subject, "refresh", refreshSeconds(client), { gen: subject.generation }),
    ]);
    const now = Math.floor(this.#base.clock.now() / 1000);
    return { accessToken, refreshToken, expiresIn, expiresAt: new Date((now + expiresIn) * 1000) };
  }

  /** What a token with a good signature, issuer, audience and time says. Throws {@link TokenError}. */
  async verify(token: string): Promise<UserClaims> {
    const payload = await this.#payload(token, AUDIENCE);
    const userId = typeof payload.uid === "string" ? parseUuid(payload.uid) : undefined;
    if (!userId) throw new TokenError("claim uid refused");
    const { tv = 1, gen = 1, type, client } = payload;
    if (typeof tv !== "number" || typeof gen !== "number") throw new TokenError("claim tv refused");
    if (type !== "access" && type !== "cli" && type !== "refresh") throw new TokenError("claim type refused");
    return {
      userId,
      kind: type === "refresh" ? "refresh" : "access",
      client: client === "web" || client === "cli" ? client : "api",
      tokenVersion: tv,
      signInId: signInOf(payload, type === "refresh" ? token : undefined),
      generation: gen,
      expiresAt: new Date((payload.exp ?? 0) * 1000),
      until: endOf(this.#base.clock, payload),
      legacy: payload.sid === undefined,
    };
  }

  /** Throws {@link TokenError} unless the token allows the test login (spec/03 3.5). */
  async verifyTestLogin(token: string): Promise<void> {
    await this.#payload(token, TEST_LOGIN_AUDIENCE);
  }

  #payload(token: string, audience: string): Promise<JWTPayload> {
    return verifyJwt(this.#base.clock, this.#keys, token, { issuer: ISSUER, audience });
  }

  #sign(
    { user, client, signInId }: TokenSubject,
    type: "access" | "cli" | "refresh",
    seconds: number,
    more: JWTPayload,
  ): Promise<string> {
    const now = Math.floor(this.#base.clock.now() / 1000);
    const [{ alg, kid, key }] = this.#keys;
    return new SignJWT({
      uid: user.id,
      email: user.email,
      ...(user.displayName && { name: user.displayName }),
      role: user.role,
      type,
      client,
      tv: user.tokenVersion,
      sid: signInId,
      ...more,
    })
      .setProtectedHeader({ alg, typ: "JWT", kid })
      .setIssuer(ISSUER)
      .setSubject(user.id)
      .setAudience(AUDIENCE)
      .setIssuedAt(now)
      .setNotBefore(now)
      .setExpirationTime(now + seconds)
      .setJti(this.#base.random.bytes(16).toString("base64url"))
      .sign(key);
  }
}

/** Whether a token says that it is a person's; unverified, only to know whose keys to try. */
export const looksLikeUserToken = (token: string): boolean => {
  try {
    const { type, uid } = decodeJwt(token);
    return type === "access" || type === "cli" || type === "refresh" || uid !== undefined;
  } catch {
    return false;
  }
};

/** The sign-in of a token. A refresh token of the original has none; what it is itself becomes one, so that it is good once. */
const signInOf = (payload: JWTPayload, refreshToken: string | undefined): Uuid | undefined => {
  if (typeof payload.sid === "string") return parseUuid(payload.sid);
  if (refreshToken === undefined) return undefined;
  const hash = createHash("sha256").update(refreshToken).digest("hex");
  return `${hash.slice(0, 8)}-${hash.slice(8, 12)}-8${hash.slice(13, 16)}-8${hash.slice(17, 20)}-${hash.slice(20, 32)}`;
};
