import type { Clock, Log } from "@rootstock/service";
import { createLocalJWKSet, errors, type FlattenedJWSInput, type JSONWebKeySet, type JWSHeaderParameters } from "jose";
import { z } from "zod";

export interface KeySetOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly url: string;
  readonly fetch: typeof fetch;
}

/** After so long keys are fetched again while the known ones go on serving, in milliseconds. */
const STALE_AFTER_MS = 3_600_000;
/** An unknown key id is asked for at once, but not more often: anybody can make one up. */
const RETRY_AFTER_MS = 5_000;
const FETCH_TIMEOUT_MS = 10_000;
const MAX_BYTES = 1_048_576;

const jwks = z.object({ keys: z.array(z.looseObject({ kty: z.string() })).max(1_000) });

type Resolver = ReturnType<typeof createLocalJWKSet>;

/** The public keys that somebody signs with (spec/03 3.6): fetched when needed, and never given up for nothing. */
export class KeySet {
  readonly #options: KeySetOptions;
  #keys: Resolver | undefined;
  #fetchedAt = 0;
  #triedAt = Number.NEGATIVE_INFINITY;
  #fetching: Promise<void> | undefined;

  constructor(options: KeySetOptions) {
    this.#options = options;
  }

  /** The key of a token's header, for jose. Throws when there is none, and `JWKSTimeout` when none could be had so far. */
  readonly key = async (header: JWSHeaderParameters, token: FlattenedJWSInput): ReturnType<Resolver> => {
    const now = this.#options.clock.elapsed();
    if (!this.#keys) await this.#refresh();
    else if (now - this.#fetchedAt > STALE_AFTER_MS) void this.#refresh();
    if (!this.#keys) throw new errors.JWKSTimeout("the keys cannot be had");
    try {
      return await this.#keys(header, token);
    } catch (err) {
      if (!(err instanceof errors.JWKSNoMatchingKey)) throw err;
      await this.#refresh();
      return this.#keys(header, token);
    }
  };

  /** At most one fetch at a time and one in a while. Never rejects: the last good keys stay. */
  #refresh(): Promise<void> {
    this.#fetching ??= this.#fetch().finally(() => {
      this.#fetching = undefined;
    });
    return this.#fetching;
  }

  async #fetch(): Promise<void> {
    const { clock, log, url } = this.#options;
    if (clock.elapsed() - this.#triedAt < RETRY_AFTER_MS) return;
    this.#triedAt = clock.elapsed();
    try {
      const response = await this.#options.fetch(url, {
        headers: { accept: "application/json" },
        redirect: "error",
        signal: AbortSignal.timeout(FETCH_TIMEOUT_MS),
      });
      if (!response.ok) throw new Error(`answered ${response.status}`);
      const set = jwks.parse(JSON.parse(await limitedText(response, MAX_BYTES)));
      this.#keys = createLocalJWKSet(set satisfies JSONWebKeySet);
      this.#fetchedAt = clock.elapsed();
    } catch (err) {
      log.warn({ err, url }, "public keys not fetched");
    }
  }
}

/** A body as text. Throws when it is longer than `maxBytes`. */
export const limitedText = async (response: Response, maxBytes: number): Promise<string> => {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength;
    if (bytes > maxBytes) throw new Error(`more than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
};
