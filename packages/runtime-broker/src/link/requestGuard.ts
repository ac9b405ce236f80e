import { SIGNATURE_HEADERS, SIGNATURE_MAX_SKEW_SECONDS, verifySignature } from "@rootstock/protocol";
import type { Clock } from "@rootstock/service";
import { BrokerApiError } from "../tunnel/errors.ts";
import type { TunnelRequest } from "../tunnel/request.ts";

/** A nonce is forgotten once no timestamp that the skew allows can accompany it any more. */
const NONCE_LIFETIME_MS = 2 * SIGNATURE_MAX_SKEW_SECONDS * 1000;
const MAX_NONCES = 200_000;

/**
 * Lets a tunnelled request pass only if the hub signed it with this runtime broker's secret, recently, and not before
 * (spec/01 2.4, strict mode). The original does not remember nonces: whoever records one request there can repeat it.
 */
export class RequestGuard {
  readonly #clock: Clock;
  /** Nonce to the time at which it may be forgotten; insertion order is that of expiry. */
  readonly #seen = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** @throws BrokerApiError 401 `broker_auth_failed` with the reason */
  check(request: TunnelRequest, secret: Uint8Array): void {
    const header = (name: string) => request.headers.get(name.toLowerCase()) ?? "";
    const refuse = (reason: string) => new BrokerApiError("broker_auth_failed", reason);
    const timestamp = header(SIGNATURE_HEADERS.timestamp);
    const nonce = header(SIGNATURE_HEADERS.nonce);
    const signature = header(SIGNATURE_HEADERS.signature);
    if (!header(SIGNATURE_HEADERS.brokerId) || !timestamp || !nonce || !signature) {
      throw refuse("the request is not signed");
    }
    const now = this.#clock.now();
    if (!/^\d{1,12}$/.test(timestamp)) throw refuse("the timestamp is not a number of seconds");
    if (Math.abs(now / 1000 - Number(timestamp)) > SIGNATURE_MAX_SKEW_SECONDS) {
      throw refuse("the timestamp differs too much from this machine's clock");
    }
    const signed = {
      method: request.method,
      path: request.decodedPath,
      query: request.rawQuery,
      timestamp,
      nonce,
      headers: header(SIGNATURE_HEADERS.signedHeaders)
        .split(";")
        .filter((name) => name.trim() !== "")
        .map((name) => [name.trim(), header(name.trim())] as const),
      body: request.body,
    };
    if (!verifySignature(secret, signed, signature)) throw refuse("invalid signature");
    // Only after the signature: otherwise anyone could fill the memory or use up a nonce.
    this.#forget(now);
    if (this.#seen.has(nonce)) throw refuse("the nonce was used before");
    this.#seen.set(nonce, now + NONCE_LIFETIME_MS);
  }

  #forget(now: number): void {
    for (const [nonce, until] of this.#seen) {
      if (until > now && this.#seen.size < MAX_NONCES) return;
      this.#seen.delete(nonce);
    }
  }
}
