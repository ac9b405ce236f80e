import type { Fact, FactOf } from "./history.ts";

/** A promise of design section 2 that was not kept. */
export interface Breach {
  readonly rule: Rule;
  readonly what: string;
}

export type Rule =
  | "lost"
  | "acknowledged before delivery"
  | "duplicated"
  | "out of order"
  | "executed twice at once"
  | "failed, and ran later"
  | "an old connection spoke"
  | "event missed or repeated"
  | "idempotent call executed twice"
  | "late"
  | "not at rest";

/** The facts of one kind. */
export const factsOf = <K extends Fact["kind"]>(facts: readonly Fact[], kind: K): FactOf<K>[] =>
  facts.filter((f): f is FactOf<K> => f.kind === kind);

/** Groups by a key, in the order of first appearance. */
export const groupBy = <T>(items: Iterable<T>, key: (item: T) => string): Map<string, T[]> => {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const group = groups.get(key(item));
    if (group) group.push(item);
    else groups.set(key(item), [item]);
  }
  return groups;
};

/** Whether the hub said yes: from then on the work is its own. */
export const accepted = (status: number): boolean => status >= 200 && status < 300;

export const seconds = (ms: number): string => `${(ms / 1_000).toFixed(2)} s`;
