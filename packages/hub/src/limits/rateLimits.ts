import type { Base, Service } from "@rootstock/service";
import type { Db } from "@rootstock/store";
import { addressGroup, countedAs, DEVELOPMENT_USER, type Principal } from "../auth/index.ts";
import { CredentialGuard } from "./credentialGuard.ts";
import { LeasedBudget } from "./leasedBudget.ts";
import type { DeedName, DoorName, LimitName, RateRule, RateRules } from "./rules.ts";
import { SharedLimit } from "./sharedLimit.ts";

export interface RateLimitsOptions {
  readonly db: Db;
  readonly rules: RateRules;
  /** Called for each call that is refused, with the limit's name. */
  readonly refused: (limit: LimitName) => void;
}

/** Every limit of a replica, and what it is counted by. */
export class RateLimits implements Service {
  /** Undefined: failures are not counted. */
  readonly guard: CredentialGuard | undefined;
  readonly #base: Base;
  readonly #options: RateLimitsOptions;
  readonly #doors = new Map<DoorName, SharedLimit>();
  readonly #deeds = new Map<DeedName, LeasedBudget>();
  readonly #principals: LeasedBudget | undefined;
  readonly #addresses: LeasedBudget | undefined;

  constructor(base: Base, options: RateLimitsOptions) {
    this.#base = base;
    this.#options = options;
    for (const name of DOORS) this.#with(name, (rule) => this.#doors.set(name, new SharedLimit(this.#of(name, rule))));
    for (const name of DEEDS) this.#with(name, (rule) => this.#deeds.set(name, new LeasedBudget(this.#of(name, rule))));
    this.guard = this.#with("failure", (rule) => new CredentialGuard(this.#of("failure", rule)));
    this.#principals = this.#with("principal", (rule) => new LeasedBudget(this.#of("principal", rule)));
    this.#addresses = this.#with("address", (rule) => new LeasedBudget(this.#of("address", rule)));
  }

  async start(): Promise<void> {}

  /** Resolves when nothing is asked of the database any more. */
  async stop(): Promise<void> {
    const budgets = [...this.#deeds.values(), this.#principals, this.#addresses];
    await Promise.all(budgets.map((budget) => budget?.idle()));
  }

  /** One more call of somebody from somewhere. Throws {@link RateLimited}; never asks the database. */
  spend(principal: Principal, address: string): void {
    if (principal.kind === "replica" || principal.kind === "scraper") return;
    this.#addresses?.spend(addressGroup(address));
    if (principal.kind !== "nobody" && !isDevelopment(principal)) this.#principals?.spend(countedAs(principal));
  }

  /** Knocks at a door that is open to anyone. Throws {@link RateLimited}. */
  async knock(door: DoorName, address: string): Promise<void> {
    await this.#doors.get(door)?.demand(addressGroup(address));
  }

  /** The same for codes that somebody types who is signed in: from each place and by each person. Throws {@link RateLimited}. */
  async attempt(door: DoorName, principal: Principal): Promise<void> {
    await this.#doors.get(door)?.demand(countedAs(principal));
  }

  /** One more of something that costs much. Throws {@link RateLimited}; never asks the database. */
  act(deed: DeedName, principal: Principal): void {
    if (!isDevelopment(principal)) this.#deeds.get(deed)?.spend(countedAs(principal));
  }

  #of<Name extends LimitName>(name: Name, rule: RateRule) {
    const { db, refused } = this.#options;
    return { db, clock: this.#base.clock, log: this.#base.log, name, rule, refused: () => refused(name) };
  }

  #with<T>(name: LimitName, make: (rule: RateRule) => T): T | undefined {
    const rule = this.#options.rules[name];
    return rule && make(rule);
  }
}

const DOORS: readonly DoorName[] = ["login", "refresh", "validate", "device", "poll", "join", "webhook", "code"];
const DEEDS: readonly DeedName[] = ["terminal", "create"];

/** One token for everybody, on machines of developers: what uses it is many, and load tests above all. */
const isDevelopment = (principal: Principal): boolean =>
  principal.kind === "user" && principal.id === DEVELOPMENT_USER.id;
