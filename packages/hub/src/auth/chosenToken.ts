const LEAST = 16;
/** From here on words are as hard to hit as what was drawn. */
const WORDS_FROM = 32;
const LEAST_DIFFERENT = 6;
const KINDS = [/[a-z]/, /[A-Z]/, /[0-9]/];

/**
 * What makes a token that an operator has chosen guessable; undefined: nothing that can be seen. A good credential passes at
 * any address however much is tried there, so that only its own strength keeps guessers out: at 100,000 tries a second, more
 * than a fleet of replicas answers, a year has 2^42. Sixteen drawn characters (hexadecimal: 2^64) are far beyond that, so that
 * length alone is no reason to refuse a token that is in use; what is not drawn can be hit at any length. Refused is what
 * drawing as good as never gives: few different characters, and below 32 letters of one case or digits alone, as words,
 * names and dates are.
 */
export const weaknessOf = (token: string): string | undefined => {
  if (token.length < LEAST) return `want ${LEAST} characters at least`;
  if (new Set(token).size < LEAST_DIFFERENT) return "repeats few characters";
  if (token.length < WORDS_FROM && KINDS.filter((kind) => kind.test(token)).length < 2)
    return `below ${WORDS_FROM} characters, want letters and digits that were drawn, no words`;
  return undefined;
};

/** Said beside a weakness. */
export const DRAW_ONE = 'draw one with "openssl rand -hex 32"';
