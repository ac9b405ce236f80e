import { mayBeBusy } from "./busy.ts";
import type { Interest } from "./interest.ts";

/**
 * Subjects and patterns (spec/02 7.1): tokens split by `.`; in a pattern `*` stands for one token and a last `>` for one
 * or more.
 */

const PATTERN = /^(?:(?:[A-Za-z0-9_-]+|\*)\.)*(?:[A-Za-z0-9_-]+|\*|>)$/;

/** Whether `pattern` may be subscribed to: 1 to 256 characters, well-formed tokens, `>` only at the end. */
export const isPattern = (pattern: string): boolean => pattern.length <= 256 && PATTERN.test(pattern);

/** Whether `subject` is one that `pattern` stands for. */
export const matches = (pattern: string, subject: string): boolean => {
  const want = pattern.split(".");
  const have = subject.split(".");
  for (const [i, token] of want.entries()) {
    if (token === ">") return have.length > i;
    if (i >= have.length || (token !== "*" && token !== have[i])) return false;
  }
  return want.length === have.length;
};

/** The first of `subjects` that one of `patterns` stands for. */
export const firstMatch = (patterns: readonly string[], subjects: readonly string[]): string | undefined =>
  subjects.find((subject) => patterns.some((pattern) => matches(pattern, subject)));

/** A project's subject and its old name: every `project.` subject is repeated as `grove.`. */
export const withGrove = (subject: string): readonly string[] =>
  subject.startsWith("project.") ? [subject, `grove.${subject.slice("project.".length)}`] : [subject];

interface Entry<T> {
  readonly pattern: string;
  readonly value: T;
}

/** Of the patterns with one literal beginning, those with nothing behind it, with `>`, and with anything else. */
interface Bucket<T> {
  readonly exact: Set<Entry<T>>;
  readonly below: Set<Entry<T>>;
  readonly others: Set<Entry<T>>;
}

/**
 * Who wants which subjects. Found by the literal beginning of each pattern, so that an event costs what its receivers
 * cost, not what all subscriptions do.
 */
export class SubjectIndex<T> {
  readonly #byPrefix = new Map<string, Bucket<T>>();
  /** How many of the patterns may stand for a subject of what changes all the time. */
  #busy = 0;

  add(patterns: readonly string[], value: T): () => void {
    const busy = patterns.filter(mayBeBusy).length;
    this.#busy += busy;
    const added = patterns.map((pattern) => {
      const prefix = literalPrefix(pattern);
      const bucket = this.#byPrefix.get(prefix) ?? { exact: new Set(), below: new Set(), others: new Set() };
      this.#byPrefix.set(prefix, bucket);
      const rest = prefix === "" ? pattern : pattern.slice(prefix.length + 1);
      const entries = rest === "" ? bucket.exact : rest === ">" ? bucket.below : bucket.others;
      const entry = { pattern, value };
      entries.add(entry);
      return { prefix, entries, entry };
    });
    let there = true;
    return () => {
      if (there) this.#busy -= busy;
      there = false;
      for (const { prefix, entries, entry } of added) {
        entries.delete(entry);
        const bucket = this.#byPrefix.get(prefix);
        if (bucket && bucket.exact.size + bucket.below.size + bucket.others.size === 0) this.#byPrefix.delete(prefix);
      }
    };
  }

  /** Each value with a pattern for one of `subjects`, once, with the first subject that it has a pattern for. */
  find(subjects: readonly string[]): ReadonlyMap<T, string> {
    const found = new Map<T, string>();
    if (this.#byPrefix.size === 0) return found;
    for (const subject of subjects)
      this.#visit(subject, ({ value }) => {
        if (!found.has(value)) found.set(value, subject);
        return false;
      });
    return found;
  }

  /** Whether there is a pattern for one of `subjects`. */
  has(subjects: readonly string[]): boolean {
    return this.#byPrefix.size > 0 && subjects.some((subject) => this.#visit(subject, () => true));
  }

  /** What all of them together want, as it is at any time. */
  get interest(): Interest {
    return { wanted: (subjects) => this.has(subjects), busy: () => this.#busy > 0 };
  }

  /** Calls `fn` for each entry whose pattern stands for `subject`, until it returns true. Whether it did. */
  #visit(subject: string, fn: (entry: Entry<T>) => boolean): boolean {
    for (let at = -1; at < subject.length; ) {
      // The beginning up to `at`: nothing, then one token more each time.
      const bucket = this.#byPrefix.get(at < 0 ? "" : subject.slice(0, at));
      if (bucket) for (const entry of bucket.below) if (fn(entry)) return true;
      if (bucket) for (const entry of bucket.others) if (matches(entry.pattern, subject) && fn(entry)) return true;
      const dot = subject.indexOf(".", at + 1);
      at = dot < 0 ? subject.length : dot;
    }
    for (const entry of this.#byPrefix.get(subject)?.exact ?? []) if (fn(entry)) return true;
    return false;
  }
}

/** The tokens of a pattern before its first wildcard. */
const literalPrefix = (pattern: string): string => {
  const tokens = pattern.split(".");
  const wild = tokens.findIndex((t) => t === "*" || t === ">");
  return (wild < 0 ? tokens : tokens.slice(0, wild)).join(".");
};
