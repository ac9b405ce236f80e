import { SIGNATURE_HEADERS } from "@rootstock/protocol";
import type { Clock, Log } from "@rootstock/service";
import { type Db, takeFromBuckets } from "@rootstock/store";
import { ACCESS_TOKEN_PREFIX, AGENT_TOKEN_HEADER } from "../auth/index.ts";
import { RateLimited } from "./rateLimited.ts";
import { Recent } from "./recent.ts";
import type { RateRule } from "./rules.ts";
import { bucketKey } from "./sharedLimit.ts";

export interface CredentialGuardOptions {
  readonly db: Db;
  readonly clock: Clock;
  readonly log: Log;
  readonly rule: RateRule;
  /** Called for each refusal. */
  readonly refused: () => void;
}

interface Failing {
  /** Failures that the shared budget has not been told of. */
  untold: number;
  telling: boolean;
  refusedUntil: number;
}

/** A credential that proved something within this time, in milliseconds, is not one of those that are tried out. */
const GOOD_FOR_MS = 600_000;
const NOTED_EVERY_MS = 60_000;
const MOST_KEPT = 20_000;
const SHOWN_CHARACTERS = 16;

/**
 * Keeps those who try credentials out from trying many: an address whose attempts have failed too often, at all replicas
 * together, hears no more than that. Whoever shares an address with the guesser (a company behind one of its own) goes on
 * working with what is good, at whichever replica. Only what people have thought up, and might be guessed, is refused
 * before it is looked at, unless it was good here lately. Nobody elsewhere is kept out by it.
 */
export class CredentialGuard {
  readonly #options: CredentialGuardOptions;
  readonly #failing = new Recent<string, Failing>(MOST_KEPT);
  readonly #good = new Recent<string, number>(MOST_KEPT);

  constructor(options: CredentialGuardOptions) {
    this.#options = options;
  }

  /** Whether any address has failed lately: as long as none has, nobody's address needs to be known. */
  get watching(): boolean {
    return this.#failing.size > 0;
  }

  /**
   * Looks at an address before what it shows is looked at. Once it has failed too often: returns what is to be thrown when
   * this proves nothing either, and throws {@link RateLimited} itself for what might be guessed.
   */
  admit(address: string, headers: Headers): (() => Error) | undefined {
    const { clock, rule } = this.#options;
    const failing = this.#failing.get(address);
    const now = clock.elapsed();
    if (!failing || failing.refusedUntil <= now) return undefined;
    const shown = shownIn(headers);
    // Nothing is tried out without a credential.
    if (shown === undefined || now - (this.#good.get(shown) ?? Number.NEGATIVE_INFINITY) < GOOD_FOR_MS)
      return undefined;
    const refusal = () => {
      this.#options.refused();
      return new RateLimited("failure", rule, failing.refusedUntil - now);
    };
    if (mightBeGuessed(headers)) throw refusal();
    return refusal;
  }

  /** To be called when a credential has proved something. */
  succeeded(headers: Headers): void {
    const shown = shownIn(headers);
    if (shown === undefined) return;
    const now = this.#options.clock.elapsed();
    const noted = this.#good.get(shown);
    if (noted === undefined || now - noted > NOTED_EVERY_MS) this.#good.set(shown, now);
  }

  /** To be called when a credential has proved nothing. */
  failed(address: string): void {
    let failing = this.#failing.get(address);
    if (!failing) {
      failing = { untold: 0, telling: false, refusedUntil: 0 };
      this.#failing.set(address, failing);
    }
    failing.untold += 1;
    void this.#tell(address, failing);
  }

  async #tell(address: string, failing: Failing): Promise<void> {
    if (failing.telling) return;
    failing.telling = true;
    const { db, clock, log, rule } = this.#options;
    try {
      while (failing.untold > 0) {
        const amount = failing.untold;
        failing.untold = 0;
        const bucket = { capacity: rule.burst, perSecond: rule.perSecond };
        const [taken] = await takeFromBuckets(db, bucket, [{ key: bucketKey("failure", address), amount }], false);
        if (taken && taken.waitMs > 0) failing.refusedUntil = clock.elapsed() + taken.waitMs;
      }
    } catch (err) {
      log.warn({ err }, "failed credentials not counted");
    } finally {
      failing.telling = false;
    }
  }
}

/**
 * A token that is neither signed nor drawn by a hub: one that operators have put into their configuration. Everything
 * else has more possibilities than anybody could try.
 */
const mightBeGuessed = (headers: Headers): boolean => {
  if (headers.get(AGENT_TOKEN_HEADER) !== null || headers.get(SIGNATURE_HEADERS.brokerId) !== null) return false;
  const token = /^bearer +(.*)$/i.exec(headers.get("authorization") ?? "")?.[1]?.trim();
  return token !== undefined && !token.startsWith(ACCESS_TOKEN_PREFIX) && token.split(".").length !== 3;
};

/**
 * What of a request tells one credential from others: the end of it, which nobody knows who has not got it, or the runtime
 * broker's id where each request is signed anew.
 */
const shownIn = (headers: Headers): string | undefined => {
  const agent = headers.get(AGENT_TOKEN_HEADER);
  if (agent !== null) return agent.slice(-SHOWN_CHARACTERS);
  const runtimeBroker = headers.get(SIGNATURE_HEADERS.brokerId);
  if (runtimeBroker !== null) return runtimeBroker;
  return (headers.get("authorization") ?? headers.get("cookie"))?.slice(-SHOWN_CHARACTERS);
};
