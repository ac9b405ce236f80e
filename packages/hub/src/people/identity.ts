/** A person as somebody vouches for them whom this hub is configured to believe. */
export interface ProvenIdentity {
  /** Who vouches: with `subject` it names the person for ever. */
  readonly issuer: string;
  readonly subject: string;
  /** Verified by the issuer. */
  readonly email: string;
  readonly displayName: string;
  readonly avatarUrl: string | undefined;
  /** The organisation whose account it is, where the issuer says so (`hd`). */
  readonly hostedDomain: string | undefined;
}

const MAX_EMAIL = 254;
/** With white space around it. Longer texts take a pattern the longer. */
const MAX_TEXT = 1_024;
const MAX_DISPLAY_NAME = 200;

/**
 * An address fit to be stored and compared, trimmed and in lower case; undefined for anything else. ASCII alone, and before
 * anything is folded: there are letters (the Kelvin sign) whose lower case is one of ours, and two people must not be one.
 */
export const parseEmail = (text: unknown): string | undefined => {
  if (typeof text !== "string" || text.length > MAX_TEXT) return undefined;
  const email = text.replace(/^[ \t\r\n]+|[ \t\r\n]+$/g, "");
  return email.length <= MAX_EMAIL && /^[!-?A-~]+@[!-?A-~]+$/.test(email) && !/[",;<>\\()[\]:]/.test(email)
    ? email.toLowerCase()
    : undefined;
};

/** An organisation's domain in lower case; undefined for what is none. As little is folded as of addresses. */
export const parseHostedDomain = (text: unknown): string | undefined =>
  typeof text === "string" && /^[!-~]+$/.test(text) ? text.toLowerCase() : undefined;

/** The part of an address behind its last `@`. */
export const domainOf = (email: string): string => email.slice(email.lastIndexOf("@") + 1);

/** A name fit to be stored and shown: without control characters, cut to a length that pages can show. */
export const parseDisplayName = (text: unknown): string =>
  typeof text === "string" ? text.replace(/\p{C}/gu, " ").trim().slice(0, MAX_DISPLAY_NAME) : "";

/** A picture's address that a page may show; undefined for anything else. */
export const parseAvatarUrl = (text: unknown): string | undefined =>
  typeof text === "string" && text.length <= 2048 && URL.canParse(text) && new URL(text).protocol === "https:"
    ? new URL(text).href
    : undefined;
