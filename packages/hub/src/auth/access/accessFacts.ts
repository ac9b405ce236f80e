import type { Uuid } from "@rootstock/protocol";
import type { Clock } from "@rootstock/service";
import { type AccessFactRows, agentAccessFacts, type Db, userAccessFacts } from "@rootstock/store";
import { Fresh } from "../../people/index.ts";
import type { AgentPrincipal, Principal } from "../principal.ts";
import { type Facts, NO_FACTS, type Rights } from "./facts.ts";
import { byPrecedence, compilePolicy } from "./policies.ts";

/** How long what was read of somebody's rights is believed, in milliseconds, with every signal lost. */
const FRESH_MS = 2_000;
/** Of how many people, and agents, at once: a hundred policies of one take some 50 KB. */
const MOST_KEPT = 2_000;

/** Groups and policies of principals: read when the first decision hangs on them, and kept for a moment. */
export class AccessFacts {
  readonly #clock: Clock;
  readonly #users: Fresh<Uuid, Rights>;
  readonly #agents: Fresh<string, Rights>;

  constructor(clock: Clock, db: Db) {
    this.#clock = clock;
    this.#users = new Fresh(clock, FRESH_MS, async (id) => rightsOf(await userAccessFacts(db, id)), MOST_KEPT);
    const ofAgent = async (key: string) => {
      const [id = "", ...ancestry] = key.split(" ");
      return rightsOf(await agentAccessFacts(db, { id, ancestry }));
    };
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

  /** To be called when groups or policies have changed. */
  forgetAll(): void {
    this.#users.forgetAll();
    this.#agents.forgetAll();
  }

  #rights(principal: Principal): Promise<Rights> | undefined {
    if (principal.kind === "user") return this.#users.get(principal.id);
    return principal.kind === "agent" ? this.#agents.get(keyOf(principal)) : undefined;
  }
}

/** Whom an agent acts for is told by its token. */
const keyOf = ({ id, ancestry }: AgentPrincipal): string => [id, ...ancestry].join(" ");

const rightsOf = ({ groups, policies, stamp }: AccessFactRows): Rights => {
  const ofProjects = groups.filter((g) => g.projectId !== null && g.type === "explicit");
  const projects = (list: typeof groups): ReadonlySet<Uuid> => new Set(list.flatMap((g) => g.projectId ?? []));
  return {
    groups: groups.map(({ id, slug, projectId, role }) => ({ id, slug, projectId, role })),
    managed: projects(ofProjects.filter((g) => g.role === "owner" || g.role === "admin")),
    joined: projects(ofProjects),
    policies: policies.map(compilePolicy).sort(byPrecedence),
    stamp,
  };
};
