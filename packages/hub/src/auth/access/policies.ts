import { BlockList, isIP } from "node:net";
import type { PolicyScopeType, StoredPolicy } from "@rootstock/store";
import type { Action } from "../vocabulary.ts";
import type { Facts } from "./facts.ts";
import type { Target } from "./resource.ts";

/** A policy ready to be matched. That a condition on who delegates holds is known before it becomes one. */
export interface Policy extends StoredPolicy {
  readonly can: ReadonlySet<string>;
  readonly labels: readonly (readonly [string, string])[];
  /** Milliseconds since 1970; not a number for what is no time: then it never holds. */
  readonly from: number;
  readonly until: number;
  /** Undefined where it counts from anywhere. Taken apart when somebody asks: few are ever asked. */
  readonly sources: (() => BlockList) | undefined;
  /** It reaches the principal because somebody it acts for is named. */
  readonly delegated: boolean;
}

const RANK: Readonly<Record<PolicyScopeType, number>> = { resource: 0, project: 1, hub: 2 };
/** What of `*` is not everything: values for containers are given by name. */
const EVERYTHING = "*";

export const compilePolicy = (stored: StoredPolicy): Policy => {
  const { conditions } = stored;
  return {
    ...stored,
    can: new Set(stored.actions),
    labels: Object.entries(conditions.labels ?? {}),
    from: conditions.validFrom === undefined ? Number.NEGATIVE_INFINITY : Date.parse(conditions.validFrom),
    until: conditions.validUntil === undefined ? Number.POSITIVE_INFINITY : Date.parse(conditions.validUntil),
    sources: conditions.sourceIps && once(conditions.sourceIps, sourcesOf),
    delegated: conditions.delegatedFrom !== undefined || conditions.delegatedFromGroup !== undefined,
  };
};

/**
 * The order in which policies decide (spec/03 5.4): the most specific scope first, then the highest priority. Of equals a
 * deny comes first, so that nothing hangs on which was made earlier.
 */
export const byPrecedence = (a: StoredPolicy, b: StoredPolicy): number =>
  RANK[a.scopeType] - RANK[b.scopeType] ||
  b.priority - a.priority ||
  Number(b.effect === "deny") - Number(a.effect === "deny") ||
  (a.id < b.id ? -1 : 1);

/** The policy that decides; undefined where none says anything. */
export const decidingPolicy = (facts: Facts, action: Action, target: Target): Policy | undefined =>
  facts.rights.policies.find(
    (p) => isAbout(p, action, target) && holdsNow(p, facts) && labelsHold(p, target) && visibilityHolds(p, target),
  );

const isAbout = (p: Policy, action: Action, target: Target): boolean =>
  (p.resourceType === target.type || (p.resourceType === EVERYTHING && !target.guarded)) &&
  (p.resourceId === null || p.resourceId === target.id) &&
  covers(p, action) &&
  (p.scopeType === "hub" || p.scopeId === (p.scopeType === "project" ? target.projectId : target.id));

/** `lifecycle` is start and stop: allowed by both together, denied by either. */
const covers = ({ can, effect }: Policy, action: Action): boolean => {
  if (can.has(action) || can.has(EVERYTHING)) return true;
  if (action !== "lifecycle") return false;
  return effect === "deny" ? can.has("start") || can.has("stop") : can.has("start") && can.has("stop");
};

/** Whether it counts at this time and for a call from there. */
export const holdsNow = (p: Policy, { now, address }: Pick<Facts, "now" | "address">): boolean =>
  now >= p.from && now <= p.until && (p.sources === undefined || isFrom(p.sources(), address));

const isFrom = (sources: BlockList, address: string | undefined): boolean => {
  const family = isIP(address ?? "");
  return family !== 0 && sources.check(address ?? "", family === 6 ? "ipv6" : "ipv4");
};

const labelsHold = (p: Policy, target: Target): boolean =>
  p.labels.every(([name, value]) => Object.hasOwn(target.labels, name) && target.labels[name] === value);

const visibilityHolds = (p: Policy, target: Target): boolean =>
  p.conditions.visibility === undefined || p.conditions.visibility.includes(target.visibility);

/** `make` of `from`, made at the first call. */
const once = <A, B>(from: A, make: (from: A) => B): (() => B) => {
  let made: { readonly value: B } | undefined;
  return () => {
    made ??= { value: make(from) };
    return made.value;
  };
};

/** Addresses and ranges; what is neither is left out, so that nobody comes from there. */
const sourcesOf = (texts: readonly string[]): BlockList => {
  const list = new BlockList();
  for (const text of texts) {
    const [address = "", bits] = text.trim().split("/");
    const version = isIP(address);
    if (version === 0) continue;
    const family = version === 6 ? "ipv6" : "ipv4";
    if (bits === undefined) list.addAddress(address, family);
    else if (/^\d{1,3}$/.test(bits) && Number(bits) <= (version === 6 ? 128 : 32))
      list.addSubnet(address, Number(bits), family);
  }
  return list;
};
