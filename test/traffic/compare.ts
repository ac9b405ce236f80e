import { Ids, isUuid } from "./ids.ts";

/** Texts from closed sets, and names that the caller chose: these must be equal, not only texts. */
const EQUAL = new Set(
  `code phase activity status slug name type scope visibility projectType connectionState event subject
  harnessConfig harnessAuth template runtime metadataMode metadata_mode subscriberType msg raw plain interrupt`.split(
    /\s+/,
  ),
);
/** Secrets that are handed out once and shown again by the client. */
const TOKENS = new Set(["joinToken", "secretKey"]);
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/;
const ZERO_TIME = "0001-01-01T00:00:00Z";

const typeOf = (value: unknown): string =>
  value === null ? "null" : Array.isArray(value) ? "list" : value === undefined ? "missing" : typeof value;

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> => typeOf(value) === "object";

const show = (value: unknown): string => JSON.stringify(value) ?? "nothing";

/**
 * How `ours` differs from what was recorded: every recorded field must be there with the same type, lists with as many
 * elements, ids that mean the same thing, the same times unset, and equal values where `EQUAL` says so. What ours has
 * beyond that is allowed.
 */
export const differences = (recorded: unknown, ours: unknown, ids: Ids, path: string): string[] => {
  if (ours === undefined) return [`${path} is missing`];
  if (typeOf(recorded) !== typeOf(ours)) return [`${path} is ${typeOf(ours)} for ${typeOf(recorded)}`];
  if (Array.isArray(recorded) && Array.isArray(ours)) return listDifferences(recorded, ours, ids, path);
  if (isObject(recorded) && isObject(ours))
    return Object.entries(recorded).flatMap(([key, value]) =>
      differences(value, Reflect.get(ours, ids.of(key)), ids, `${path}.${key}`),
    );
  if (typeof recorded === "string" && typeof ours === "string") return textDifferences(recorded, ours, ids, path);
  return keyed(path, EQUAL) && recorded !== ours ? [`${path} is ${show(ours)} for ${show(recorded)}`] : [];
};

const keyed = (path: string, keys: ReadonlySet<string>): boolean => keys.has(path.split(".").at(-1) ?? "");

const listDifferences = (recorded: readonly unknown[], ours: readonly unknown[], ids: Ids, path: string): string[] => {
  // A set of words: what a principal may do.
  if (path.endsWith(".actions"))
    return recorded.filter((word) => !ours.includes(word)).map((word) => `${path} lacks ${show(word)}`);
  if (recorded.length !== ours.length) {
    const [first] = ours;
    const shape = first === undefined ? [] : differences(recorded[0], first, new Ids(), `${path}.0`);
    return [`${path} has ${ours.length} elements for ${recorded.length}`, ...shape];
  }
  return recorded.flatMap((value, i) => differences(value, ours[i], ids, `${path}.${i}`));
};

const textDifferences = (recorded: string, ours: string, ids: Ids, path: string): string[] => {
  if (keyed(path, TOKENS)) {
    ids.learn(recorded, ours);
    return [];
  }
  if (isUuid(recorded)) {
    if (!isUuid(ours)) return [`${path} is no id`];
    return ids.learn(recorded, ours) ? [] : [`${path} is the id of something else`];
  }
  if (TIME.test(recorded)) {
    if (!TIME.test(ours)) return [`${path} is no time`];
    if (ours === ZERO_TIME && recorded !== ZERO_TIME) return [`${path} is unset`];
    // Where the original answered from a copy that was older than a report, ours may know more; but nobody is deleted.
    return recorded === ZERO_TIME && ours !== ZERO_TIME && path.endsWith(".deletedAt") ? [`${path} is set`] : [];
  }
  return keyed(path, EQUAL) && ids.translate(recorded) !== ours
    ? [`${path} is ${show(ours)} for ${show(recorded)}`]
    : [];
};

/** The parameters of a query that ours lacks or has differently. */
export const queryDifferences = (recorded: string, ours: URLSearchParams, ids: Ids): string[] =>
  [...new URLSearchParams(recorded)].flatMap(([key, value]) => {
    const own = ours.get(key);
    if (own === null) return [`query.${key} is missing`];
    return TIME.test(value) || own === ids.translate(value) ? [] : [`query.${key} is ${show(own)} for ${show(value)}`];
  });
