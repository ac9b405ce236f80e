/** A UUID in its canonical form: 36 characters, lower case. */
export type Uuid = string;

const CANONICAL = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const COMPACT = /^[0-9a-f]{32}$/;

/**
 * The canonical form of what a client may send as a UUID: 36 characters, 32 hexadecimal digits, in braces, or with
 * `urn:uuid:`, in any case (spec/04 2.1). Undefined when it is none of them.
 */
export const parseUuid = (text: string): Uuid | undefined => {
  if (CANONICAL.test(text)) return text;
  const bare = text
    .trim()
    .toLowerCase()
    .replace(/^urn:uuid:/, "")
    .replace(/^\{(.*)\}$/, "$1");
  if (CANONICAL.test(bare)) return bare;
  if (!COMPACT.test(bare)) return undefined;
  return [bare.slice(0, 8), bare.slice(8, 12), bare.slice(12, 16), bare.slice(16, 20), bare.slice(20)].join("-");
};
