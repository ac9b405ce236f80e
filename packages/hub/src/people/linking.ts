import type { IdentityKey, IdentityNames, IdentityRow } from "@rootstock/store";
import type { ProvenIdentity } from "./identity.ts";

/** Google's accounts, whether they come by OAuth or through Identity-Aware Proxy. */
export const GOOGLE_ISSUER = "https://accounts.google.com";
/** The issuer of Identity-Aware Proxy's assertions, under which Google's accounts that come through it were stored once. */
export const IAP_ISSUER = "https://cloud.google.com/iap";

/** People who come through Identity-Aware Proxy by another directory than Google's have one with a colon. */
const isGoogleSubject = (subject: string): boolean => !subject.includes(":");

/** The identity under the name that it is stored with today. */
export const presentName = ({ issuer, subject }: IdentityKey): IdentityKey =>
  issuer === IAP_ISSUER && isGoogleSubject(subject) ? { issuer: GOOGLE_ISSUER, subject } : { issuer, subject };

/**
 * An issuer as it may be configured and as it may be stored: discovery takes one without a path with and without a slash
 * for the same, and people are stored by what their provider calls itself.
 */
export const namesOfIssuer = (issuer: string): readonly string[] => {
  const bare = issuer.replace(/\/$/, "");
  return /^https?:\/\/[^/?#]+$/.test(bare) ? [bare, `${bare}/`] : [issuer];
};

/** Whether somebody of the stored issuer may come by one of those that are configured; tenants of one host are not told apart. */
export const isAmong = (configured: ReadonlySet<string>, issuer: string): boolean =>
  [...configured].some((one) => one === issuer || (hostOf(one) !== undefined && hostOf(one) === hostOf(issuer)));

const hostOf = (issuer: string): string | undefined =>
  /^https?:/.test(issuer) && URL.canParse(issuer) ? new URL(issuer).host : undefined;

/** Every name that the identity may be stored under. */
export const namesOf = (key: IdentityKey): IdentityNames => {
  const { issuer, subject } = presentName(key);
  const googles = issuer === GOOGLE_ISSUER && isGoogleSubject(subject);
  return { issuers: googles ? [GOOGLE_ISSUER, IAP_ISSUER] : [issuer], subject };
};

/**
 * Whether an account is opened by an identity that is not linked to it, because of its address: by the first one of an
 * account that has none. By another one only if the operator has said of both issuers (`byEmail`) that they give addresses
 * to the same people, and as long as the account's own issuer still gives it that address: otherwise whoever gets an
 * address from any issuer would get the accounts of all.
 */
export const opensByAddress = (
  byEmail: ReadonlySet<string>,
  identity: Pick<ProvenIdentity, "issuer" | "subject" | "email">,
  linked: readonly Pick<IdentityRow, "issuer" | "subject" | "email">[],
): boolean => {
  if (linked.length === 0) return true;
  const { issuer } = presentName(identity);
  const others = linked.map((row) => ({ issuer: presentName(row).issuer, email: row.email }));
  return (
    byEmail.has(issuer) &&
    others.every((other) => other.issuer !== issuer) &&
    others.some((other) => byEmail.has(other.issuer) && other.email === identity.email)
  );
};
