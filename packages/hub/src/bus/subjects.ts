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

/**
 * Who wants which subjects. Found by the literal beginning of each pattern, so that an event costs what its receivers
 * cost, not what all subscriptions do.
 */
export class SubjectIndex<T> {
  readonly #byPrefix = new Map<string, Set<Entry<T>>>();

  add(patterns: readonly string[], value: T): () => void {
    const entries = patterns.map((pattern) => ({ prefix: literalPrefix(pattern), entry: { pattern, value } }));
    for (const { prefix, entry } of entries) {
      const bucket = this.#byPrefix.get(prefix) ?? new Set();
      bucket.add(entry);
      this.#byPrefix.set(prefix, bucket);
    }
    return () => {
      for (const { prefix, entry } of entries) {
        const bucket = this.#byPrefix.get(prefix);
        bucket?.delete(entry);
        if (bucket?.size === 0) this.#byPrefix.delete(prefix);
      }
    };
  }

  /** Each value with a pattern for one of `subjects`, once, with the first subject that it has a pattern for. */
  find(subjects: readonly string[]): Map<T, string> {
    const found = new Map<T, string>();
    for (const subject of subjects)
      for (const prefix of prefixesOf(subject))
        for (const { pattern, value } of this.#byPrefix.get(prefix) ?? [])
          if (!found.has(value) && matches(pattern, subject)) found.set(value, subject);
    return found;
  }
}

/** The tokens of a pattern before its first wildcard. */
const literalPrefix = (pattern: string): string => {
  const tokens = pattern.split(".");
  const wild = tokens.findIndex((t) => t === "*" || t === ">");
  return (wild < 0 ? tokens : tokens.slice(0, wild)).join(".");
};

function* prefixesOf(subject: string): Generator<string> {
  yield "";
  for (let dot = subject.indexOf("."); dot >= 0; dot = subject.indexOf(".", dot + 1)) yield subject.slice(0, dot);
  yield subject;
}
