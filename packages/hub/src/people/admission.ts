import { domainOf, type ProvenIdentity } from "./identity.ts";

/** Who may sign in (spec/03 3.7). The same on every replica, by configuration. */
export interface AdmissionRules {
  /**
   * `open`: whoever the issuer vouches for. `invite_only`: addresses on the allow list, and whoever brings an invite.
   * `allow_list`: addresses on the allow list alone.
   */
  readonly mode: "open" | "invite_only" | "allow_list";
  /** Addresses, in lower case, that always come in and are admins. */
  readonly admins: ReadonlySet<string>;
  /** Domains of addresses, exact or `*.example.com` for every subdomain but not the domain itself. Empty: all. */
  readonly emailDomains: readonly string[];
  /** Organisations (`hd`); an identity whose issuer names none does not come in. Empty: all. */
  readonly hostedDomains: readonly string[];
}

export type Admission =
  | { readonly allow: true; readonly admin: boolean }
  /** `needs`: the list decides, or, where they count, an invite. */
  | { readonly allow: "listed"; readonly invites: boolean }
  | { readonly allow: false; readonly reason: string };

const NOBODY: ReadonlySet<string> = new Set();

/**
 * The rules for an identity that opens the account with this address (undefined: one that is not made yet). An
 * administrator's address counts for the account that has it; whoever else is given it somewhere is one of many.
 */
export const rulesFor = (
  rules: AdmissionRules,
  identity: Pick<ProvenIdentity, "email">,
  address: string | undefined,
): AdmissionRules => (address === undefined || address === identity.email ? rules : { ...rules, admins: NOBODY });

/** What the rules say of an identity, without looking at the list. */
export const admission = (
  rules: AdmissionRules,
  identity: Pick<ProvenIdentity, "email" | "hostedDomain">,
): Admission => {
  if (rules.admins.has(identity.email)) return { allow: true, admin: true };
  if (rules.emailDomains.length > 0 && !rules.emailDomains.some((d) => isInDomain(domainOf(identity.email), d)))
    return { allow: false, reason: "domain_not_authorized" };
  if (rules.hostedDomains.length > 0) {
    const { hostedDomain } = identity;
    if (hostedDomain === undefined || !rules.hostedDomains.includes(hostedDomain.toLowerCase()))
      return { allow: false, reason: "hosted_domain_not_authorized" };
  }
  if (rules.mode === "open") return { allow: true, admin: false };
  return { allow: "listed", invites: rules.mode === "invite_only" };
};

/** Whether `domain` is what a rule names. */
export const isInDomain = (domain: string, rule: string): boolean =>
  rule.startsWith("*.") ? domain.endsWith(rule.slice(1)) && domain.length > rule.length - 1 : domain === rule;
