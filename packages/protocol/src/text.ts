/** PostgreSQL holds neither NUL nor half a surrogate pair: either would become a failing statement later. */
export const isStorable = (text: string): boolean => text.isWellFormed() && !text.includes("\u0000");

/** At most `max` characters of a text that somebody else made, as PostgreSQL can hold it. */
export const storable = (text: string, max: number): string =>
  text.slice(0, max).toWellFormed().replaceAll("\u0000", "\ufffd");
