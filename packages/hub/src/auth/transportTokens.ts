import type { Clock, Log } from "@rootstock/service";
import { decodeJwt } from "jose";

/**
 * Tokens that let agents through what stands before the hub (spec/03 1.6): an identity-aware proxy, or the platform that
 * runs it. The hub itself never reads them; an agent proves who it is by a token of its own.
 */
export interface TransportTokenIssuer {
  /** A new OIDC token for this audience. Throws when none can be had. */
  issue(audience: string): Promise<string>;
}

/** A transport token as agents get it. */
export interface TransportToken {
  readonly value: string;
  readonly audience: string;
  readonly expiresAt: Date;
}

export interface TransportTokensOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly issuer: TransportTokenIssuer;
  readonly audience: string;
}

/** A token that does not say when it ends lasts so long, in milliseconds. */
const USUAL_LIFE_MS = 3_600_000;
/** After a failure agents do without for so long, in milliseconds: a start must not wait for what is down. */
const RETRY_AFTER_MS = 30_000;
/** One with less than this left is given to nobody, in milliseconds: agents ask for the next one five minutes before. */
const LEAST_LEFT_MS = 60_000;

interface Kept {
  readonly token: TransportToken;
  /** From when on a new one is better. */
  readonly staleAt: number;
}

/** One transport token for all agents at a time, replaced after half its life. */
export class TransportTokens {
  readonly #options: TransportTokensOptions;
  #kept: Kept | undefined;
  #failedAt = Number.NEGATIVE_INFINITY;
  #issuing: Promise<void> | undefined;

  constructor(options: TransportTokensOptions) {
    this.#options = options;
  }

  /** A token that lasts for a while; undefined when none can be had, which is logged and no reason to fail. */
  async current(): Promise<TransportToken | undefined> {
    const { clock } = this.#options;
    const fresh = this.#kept !== undefined && clock.now() < this.#kept.staleAt;
    if (!fresh && clock.elapsed() - this.#failedAt >= RETRY_AFTER_MS) {
      this.#issuing ??= this.#issue().finally(() => {
        this.#issuing = undefined;
      });
      await this.#issuing;
    }
    const token = this.#kept?.token;
    return token && token.expiresAt.getTime() - clock.now() > LEAST_LEFT_MS ? token : undefined;
  }

  async #issue(): Promise<void> {
    const { clock, log, issuer, audience } = this.#options;
    try {
      const value = await issuer.issue(audience);
      const now = clock.now();
      const expiresAt = new Date(expiryOf(value) ?? now + USUAL_LIFE_MS);
      this.#kept = { token: { value, audience, expiresAt }, staleAt: (now + expiresAt.getTime()) / 2 };
    } catch (err) {
      this.#failedAt = clock.elapsed();
      log.warn({ err, audience }, "transport token not issued");
    }
  }
}

/** When a token ends, in milliseconds since the epoch, as it says itself: only what stands before the hub can verify it. */
const expiryOf = (token: string): number | undefined => {
  try {
    const { exp } = decodeJwt(token);
    return exp === undefined ? undefined : exp * 1000;
  } catch {
    return undefined;
  }
};

/** The environment of a container that is to carry this token (spec/03 1.6). */
export const transportEnv = (token: TransportToken | undefined): Readonly<Record<string, string>> =>
  token
    ? {
        SCION_TRANSPORT_TOKEN: token.value,
        SCION_TRANSPORT_AUDIENCE: token.audience,
        SCION_TRANSPORT_TOKEN_EXPIRY: token.expiresAt.toISOString().replace(/\.\d+Z$/, "Z"),
      }
    : {};
