import type { Uuid } from "@rootstock/protocol";
import type { Clock } from "@rootstock/service";
import {
  type AccessRules,
  type AccessStanding,
  agentAccessRules,
  agentAccessStanding,
  type Db,
  type KnownRules,
  NOTHING_KNOWN,
  userAccessRules,
  userAccessStanding,
} from "@rootstock/store";
import { Fresh } from "../../people/index.ts";
import type { AgentPrincipal, Principal } from "../principal.ts";
import { type Facts, NO_FACTS, type Rights } from "./facts.ts";
import { Rules } from "./rules.ts";

/** How long what was read of somebody's rights is believed, in milliseconds, with every signal lost. */
const FRESH_MS = 2_000;
/** Of how many people, and agents, at once. */
const MOST_KEPT = 2_000;
/** How many groups and policies are kept together; a policy takes some 2 KB. */
const MOST_RULES = 40_000;
/** No version that is ever read. */
const NO_VERSION = "";

/**
 * Groups and policies of principals: read when the first decision hangs on them, and kept for a moment. One query, if
 * others have led to the same groups and policies as they are now; otherwise two.
 */
export class AccessFacts {
  readonly #clock: Clock;
  readonly #users: Fresh<Uuid, Rights>;
  readonly #agents: Fresh<string, Rights>;
  readonly #mostRules: number;
  #rules = new Rules(NO_VERSION);

  /** `mostRules`: how many groups and policies are kept together. */
  constructor(clock: Clock, db: Db, mostRules = MOST_RULES) {
    this.#clock = clock;
    this.#mostRules = mostRules;
    const ofUser = (id: Uuid) =>
      this.#read(
        () => userAccessStanding(db, id),
        (known) => userAccessRules(db, id, known),
      );
    const ofAgent = (key: string) => {
      const [id = "", ...ancestry] = key.split(" ");
      const agent = { id, ancestry };
      return this.#read(
        () => agentAccessStanding(db, agent),
        (known) => agentAccessRules(db, agent, known),
      );
    };
    this.#users = new Fresh(clock, FRESH_MS, ofUser, MOST_KEPT);
    this.#agents = new Fresh(clock, FRESH_MS, ofAgent, MOST_KEPT);
  }

  /** The principal with its facts at hand. `address`: from where it calls. */
  equip(principal: Principal, address: () => string | undefined): Principal {
    if (principal.kind !== "user" && principal.kind !== "agent") return principal;
    return { ...principal, facts: () => this.of(principal, address()) };
  }

  /** What is known of a principal now, at most {@link FRESH_MS} old. Throws when it cannot be read. */
  async of(principal: Principal, address?: string): Promise<Facts> {
    const rights = await this.#rights(principal);
    return rights ? { rights, now: this.#clock.now(), address } : NO_FACTS;
  }

  /** To be called when groups or policies have changed, or who is in them. */
  forgetAll(): void {
    this.#users.forgetAll();
    this.#agents.forgetAll();
  }

  #rights(principal: Principal): Promise<Rights> | undefined {
    if (principal.kind === "user") return this.#users.get(principal.id);
    return principal.kind === "agent" ? this.#agents.get(keyOf(principal)) : undefined;
  }

  async #read(ask: () => Promise<AccessStanding>, tell: (known: KnownRules) => Promise<AccessRules>): Promise<Rights> {
    // Who knows nothing needs not ask what it knows.
    const standing = this.#rules.version === NO_VERSION ? undefined : await ask();
    // Held on to: what it knows must not be forgotten while the rest is read, even if others go on with newer ones.
    const rules = this.#rules;
    const rights = standing && rules.rightsOf(standing);
    if (rights) return rights;
    return this.#learn(rules, await tell(standing ? rules.knownOf(standing) : NOTHING_KNOWN));
  }

  /** `rules`: those that what was told completes, if it is of their version. */
  #learn(rules: Rules, told: AccessRules): Rights {
    const complete = told.standing.version === rules.version ? rules : this.#rulesOf(told.standing.version);
    complete.learn(told);
    const rights = complete.rightsOf(told.standing);
    if (!rights) throw new Error("groups or policies were told without what they lead to");
    if (complete.size > this.#mostRules && complete === this.#rules) this.#rules = new Rules(NO_VERSION);
    return rights;
  }

  #rulesOf(version: string): Rules {
    if (this.#rules.version !== version) this.#rules = new Rules(version);
    return this.#rules;
  }
}

/** Whom an agent acts for is told by its token. */
const keyOf = ({ id, ancestry }: AgentPrincipal): string => [id, ...ancestry].join(" ");
