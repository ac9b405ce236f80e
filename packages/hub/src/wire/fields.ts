/** How values go over the wire (spec/02, "Types"): `?` fields are left out when empty, `t0` times are always there. */

/** What an unset time is sent as where a client expects one. */
export const ZERO_TIME = "0001-01-01T00:00:00Z";

/** RFC 3339, UTC, milliseconds. */
export const time = (at: Date): string => at.toISOString();

/** A time that is always sent. */
export const timeOrZero = (at: Date | null): string => (at === null ? ZERO_TIME : at.toISOString());

const isEmpty = (value: unknown): boolean => {
  if (value === undefined || value === null || value === "" || value === 0 || value === false) return true;
  if (Array.isArray(value)) return value.length === 0;
  return typeof value === "object" && !(value instanceof Date) && Object.keys(value).length === 0;
};

/** `{[key]: value}`, or nothing when the value is empty: spread it into an object. */
export const some = <K extends string, V>(key: K, value: V): { readonly [P in K]?: Exclude<V, null | undefined> } =>
  (isEmpty(value) ? {} : { [key]: value }) as { readonly [P in K]?: Exclude<V, null | undefined> };
