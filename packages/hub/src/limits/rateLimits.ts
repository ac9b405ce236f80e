import type { Base, Service } from "@rootstock/service";
import type { Db } from "@rootstock/store";
import { addressGroup, countedAs, DEVELOPMENT_USER, type Guard, type Principal } from "../auth/index.ts";
import { DeferredLimit } from "./deferredLimit.ts";
import { Recent } from "./recent.ts";
import { DEED_NAMES, type DeedName, DOOR_NAMES, type DoorName, type LimitName, type RateRules } from "./rules.ts";
import { type LimitOptions, SharedLimit } from "./sharedLimit.ts";

export interface RateLimitsOptions {
  readonly db: Db;
  readonly rules: RateRules;
  /** Called for each call that is refused, with the limit's name. */
  readonly refused: (limit: LimitName) => void;
}

/** What comes by itself, such as a heartbeat, comes at least so many milliseconds after the last. */
const USUAL_PAUSE_MS = 1_000;
const MOST_KEPT = 20_000;

/** Every limit of a replica, and what it is counted by. */
export class RateLimits implements Service, Guard {
  readonly #base: Base;
  readonly #options: RateLimitsOptions;
  readonly #exact = new Map<LimitName, SharedLimit>();
  readonly #principals: DeferredLimit | undefined;
  readonly #addresses: DeferredLimit | undefined;
  /** When each last made a call that comes by itself, in milliseconds of the monotonic clock. */
  readonly #recurred = new Recent<string, number>(MOST_KEPT);

  constructor(base: Base, options: RateLimitsOptions) {
    this.#base = base;
    this.#options = options;
    for (const name of [...DOOR_NAMES, ...DEED_NAMES, "failure"] as const)
      this.#with(name, (limit) => this.#exact.set(name, new SharedLimit(limit)));
    this.#principals = this.#with("principal", (limit) => new DeferredLimit(limit));
    this.#addresses = this.#with("address", (limit) => new DeferredLimit(limit));
  }

  async start(): Promise<void> {}

  /** Resolves when all was told and nothing is asked of the database any more. */
  async stop(): Promise<void> {
    const idle = [...this.#exact.values()].map((limit) => limit.idle());
    await Promise.all([...idle, this.#principals?.flush(), this.#addresses?.flush()]);
  }

  /** One more call of somebody from somewhere. Throws {@link RateLimited}; nobody waits for the database. */
  spend(principal: Principal, address: string): void {
    if (principal.kind === "replica" || principal.kind === "scraper") return;
    this.met(address);
    if (principal.kind !== "nobody" && !isDevelopment(principal)) this.#principals?.spend(countedAs(principal));
  }

  /**
   * One more of the calls that come by themselves: as seldom as they usually are, thousands of them are not worth a row of
   * the database each, and are not counted. Throws as {@link spend}.
   */
  recur(principal: Principal, address: () => string): void {
    if (principal.kind === "nobody") return;
    const key = countedAs(principal);
    const now = this.#base.clock.elapsed();
    const last = this.#recurred.get(key);
    this.#recurred.set(key, now);
    if (last !== undefined && now - last < USUAL_PAUSE_MS) this.spend(principal, address());
  }

  /** Knocks at a door that is open to anyone. Throws {@link RateLimited}. */
  async knock(door: DoorName, address: string): Promise<void> {
    await this.#exact.get(door)?.demand(addressGroup(address));
  }

  /** The same for codes that somebody types who is signed in: from each place and by each person. Throws {@link RateLimited}. */
  async attempt(door: DoorName, principal: Principal): Promise<void> {
    await this.#exact.get(door)?.demand(countedAs(principal));
  }

  /** One more of something that costs much. Throws {@link RateLimited}. */
  async act(deed: DeedName, principal: Principal): Promise<void> {
    if (!isDevelopment(principal)) await this.#exact.get(deed)?.demand(countedAs(principal));
  }

  /** One more call from somewhere, of whoever it may be. Throws {@link RateLimited}; nobody waits for the database. */
  met(address: string): void {
    this.#addresses?.spend(addressGroup(address));
  }

  /** One more credential that proves nothing. Throws {@link RateLimited}. */
  async failed(address: string): Promise<void> {
    await this.#exact.get("failure")?.demand(addressGroup(address));
  }

  #with<T>(name: LimitName, make: (limit: LimitOptions) => T): T | undefined {
    const { db, rules, refused } = this.#options;
    const rule = rules[name];
    if (!rule) return undefined;
    return make({ db, clock: this.#base.clock, log: this.#base.log, name, rule, refused: () => refused(name) });
  }
}

/** One token for everybody, on machines of developers: what uses it is many, and load tests above all. */
const isDevelopment = (principal: Principal): boolean =>
  principal.kind === "user" && principal.id === DEVELOPMENT_USER.id;
