import type { Uuid } from "@rootstock/protocol";
import {
  type AccessRules,
  type AccessStanding,
  type GroupRole,
  type GroupRules,
  type KnownRules,
  NOTHING_KNOWN,
  type StoredPolicy,
} from "@rootstock/store";
import type { GroupFact, Rights } from "./facts.ts";
import { byPrecedence, compilePolicy, type Policy } from "./policies.ts";

/**
 * Groups and policies that somebody's rights led to, as of one version of all of them: whoever is in the same groups has
 * the rest of its rights from here, without a look at the database.
 */
export class Rules {
  readonly version: string;
  readonly #groups = new Map<Uuid, GroupRules>();
  readonly #policies = new Map<Uuid, Policy>();

  constructor(version: string) {
    this.version = version;
  }

  /** How many groups and policies. */
  get size(): number {
    return this.#groups.size + this.#policies.size;
  }

  /** Keeps what was read as of this version. */
  learn({ groups, policies }: Pick<AccessRules, "groups" | "policies">): void {
    for (const group of groups) this.#groups.set(group.id, group);
    for (const policy of policies)
      if (!this.#policies.has(policy.id)) this.#policies.set(policy.id, compilePolicy(policy));
  }

  /** What follows from a principal's standing; undefined if that leads to what is not known, or is of another version. */
  rightsOf(standing: AccessStanding): Rights | undefined {
    if (standing.version !== this.version) return undefined;
    const own = this.#upFrom(standing.groups.map(([id]) => id));
    const ofPeople = this.#upFrom(standing.groupsOfPeople);
    const reaching = own && ofPeople && this.#reaching(own, ofPeople);
    if (!reaching) return undefined;
    for (const policy of standing.policies) reaching.set(policy.id, compilePolicy(policy));
    const actsFor = new Set(standing.actsFor);
    const policies = [...reaching.values()].filter((policy) => isDelegatedBy(policy, actsFor, ofPeople));
    return rightsFrom(own, new Map(standing.groups), policies);
  }

  /**
   * Which of the groups in a standing need not be told. For oneself as for people one acts for: until the answer is there,
   * a group may have come to be of the other kind.
   */
  knownOf({ version, groups, groupsOfPeople }: AccessStanding): KnownRules {
    if (version !== this.version) return NOTHING_KNOWN;
    const asked = new Set([...groups.map(([id]) => id), ...groupsOfPeople]);
    const isKnown = (id: Uuid): boolean => {
      const up = this.#upFrom([id]);
      return up !== undefined && this.#reaching(up, up) !== undefined;
    };
    return { version, groups: [...asked].filter(isKnown) };
  }

  /** The policies that reach whoever is in `own`, and acts for people in `ofPeople`; undefined if one is not known. */
  #reaching(own: GroupsById, ofPeople: GroupsById): Map<Uuid, Policy> | undefined {
    const found = new Map<Uuid, Policy>();
    const add = (ids: readonly Uuid[]): boolean => {
      for (const id of ids) {
        const policy = this.#policies.get(id);
        if (!policy) return false;
        found.set(id, policy);
      }
      return true;
    };
    for (const group of own.values()) if (!add(group.policies)) return undefined;
    for (const group of ofPeople.values()) if (!add(group.delegated)) return undefined;
    return found;
  }

  /** Those groups and all that they are in, at any depth; undefined if one is not known. */
  #upFrom(ids: readonly Uuid[]): GroupsById | undefined {
    const found = new Map<Uuid, GroupRules>();
    const toLookAt = [...ids];
    for (let id = toLookAt.pop(); id !== undefined; id = toLookAt.pop()) {
      if (found.has(id)) continue;
      const group = this.#groups.get(id);
      if (!group) return undefined;
      found.set(id, group);
      toLookAt.push(...group.within);
    }
    return found;
  }
}

type GroupsById = ReadonlyMap<Uuid, GroupRules>;

/** A policy that wants to be used for somebody is for agents that act for them; a person acts for nobody else. */
const isDelegatedBy = (
  { delegatedFrom, delegatedFromGroup }: StoredPolicy,
  principals: ReadonlySet<Uuid>,
  groups: ReadonlyMap<Uuid, unknown>,
): boolean =>
  (delegatedFrom === null || principals.has(delegatedFrom)) &&
  (delegatedFromGroup === null || groups.has(delegatedFromGroup));

const rightsFrom = (
  own: ReadonlyMap<Uuid, GroupRules>,
  roles: ReadonlyMap<Uuid, GroupRole | null>,
  policies: Policy[],
): Rights => {
  const [managed, joined] = [new Set<Uuid>(), new Set<Uuid>()];
  const groups: GroupFact[] = [];
  for (const { id, slug, projectId, type } of own.values()) {
    const role = roles.get(id) ?? null;
    groups.push({ id, slug, projectId, role });
    if (projectId === null || type !== "explicit") continue;
    joined.add(projectId);
    if (role === "owner" || role === "admin") managed.add(projectId);
  }
  groups.sort((a, b) => (a.id < b.id ? -1 : 1));
  policies.sort(byPrecedence);
  let stamp: string | undefined;
  return {
    groups,
    managed,
    joined,
    policies,
    get stamp() {
      stamp ??= JSON.stringify([groups, policies]);
      return stamp;
    },
  };
};
