import { createHash } from "node:crypto";
import type { Random } from "@rootstock/service";

/** No vowels, so that no code is a word, and nothing that looks like a digit (RFC 8628 6.1). */
const LETTERS = "BCDFGHJKLMNPQRSTVWXZ";
const LENGTH = 8;

/** A code that is easy to read and type, as `WDJB-MJHT`: one of 25,600,000,000. */
export const newUserCode = (random: Random): string => {
  let code = "";
  while (code.length < LENGTH)
    for (const byte of random.bytes(LENGTH)) {
      // Above the last whole multiple some letters would come more often.
      if (byte >= 256 - (256 % LETTERS.length) || code.length === LENGTH) continue;
      code += LETTERS[byte % LETTERS.length];
    }
  return `${code.slice(0, 4)}-${code.slice(4)}`;
};

/** The code that somebody typed, in whatever case and with whatever between its letters; undefined when it is none. */
export const parseUserCode = (typed: string): string | undefined => {
  const letters = typed.toUpperCase().replace(/[\s\p{P}]/gu, "");
  if (letters.length !== LENGTH || [...letters].some((letter) => !LETTERS.includes(letter))) return undefined;
  return `${letters.slice(0, 4)}-${letters.slice(4)}`;
};

/** What a code is looked up by. */
export const userCodeHash = (code: string): Buffer => createHash("sha256").update(`user code ${code}`).digest();
