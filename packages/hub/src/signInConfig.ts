import { z } from "zod";
import { AddressList, ASSERTION_ALGORITHMS, type AssertionRules, headerIssuer, IAP } from "./auth/index.ts";
import { httpUrl, listOf, problemsOf, switchOf } from "./configValues.ts";
import type { ProviderRules } from "./oauth/index.ts";
import { type AdmissionRules, GOOGLE_ISSUER, namesOfIssuer, parseEmail } from "./people/index.ts";
import { PROVIDER_VARIABLES, parseProviders } from "./providerConfig.ts";

/** How people sign in, by configuration. */
export interface SignInConfig {
  readonly admission: AdmissionRules;
  /** Proxies that sign who they let through. */
  readonly assertions: readonly AssertionRules[];
  /** Whom people sign in with, in the order in which they are shown. */
  readonly providers: readonly ProviderRules[];
  /** Whether tests may sign in as whoever they like (spec/03 3.5). */
  readonly testLogin: boolean;
  /** A proxy that says it in plain text, at these addresses. */
  readonly plainHeader: { readonly header: string; readonly from: AddressList } | undefined;
  /** Issuers that open each other's accounts by a verified address. */
  readonly linkByEmail: ReadonlySet<string>;
  /** All issuers by which people can come, as they are stored. */
  readonly issuers: ReadonlySet<string>;
}

/** The variables of sign-in with what they mean. */
export const SIGN_IN_VARIABLES = {
  ROOTSTOCK_ACCESS: "who may sign in: open (whoever a provider vouches for), invite_only or allow_list (default open)",
  ROOTSTOCK_ADMIN_EMAILS: "comma-separated addresses that may always sign in and are admins",
  ROOTSTOCK_EMAIL_DOMAINS: "comma-separated domains of addresses that may sign in, *.example.com for subdomains",
  ROOTSTOCK_HOSTED_DOMAINS: "comma-separated Google organisations (hd) whose accounts may sign in",
  ROOTSTOCK_IAP_AUDIENCE: "audience of Identity-Aware Proxy before the hub; turns sign-in by IAP on",
  ROOTSTOCK_IAP_ISSUER: "issuer of its assertions (default Google's)",
  ROOTSTOCK_IAP_JWKS_URL: "where its public keys are (default Google's)",
  ROOTSTOCK_PROXY_JWT_HEADER: "header in which another proxy passes a signed token on who calls",
  ROOTSTOCK_PROXY_ISSUER: "issuer of that token",
  ROOTSTOCK_PROXY_AUDIENCE: "audience of that token",
  ROOTSTOCK_PROXY_JWKS_URL: "where that proxy's public keys are",
  ROOTSTOCK_PROXY_EMAIL_HEADER: "header in which a proxy passes the address of who calls, in plain text",
  ROOTSTOCK_PROXY_EMAIL_FROM:
    "comma-separated addresses and networks from which that header is believed (required with it)",
  ROOTSTOCK_LINK_BY_EMAIL:
    "comma-separated ways to sign in (google, github, oidc, iap, proxy, header) and issuers that open each other's accounts by a verified address (default none)",
  ROOTSTOCK_TEST_LOGIN: "1: tests that can sign with the hub's key may sign in as anybody",
  ROOTSTOCK_ALLOW_REMOTE_TEST_LOGIN: "1: the test login on a host that is not loopback, too",
  ...PROVIDER_VARIABLES,
} as const;

const HEADER_NAME = /^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$/;
/** What nobody else may set in a request: a header that clients or other credentials use would let them in. */
const TAKEN_HEADERS = new Set(["authorization", "cookie", "host", "x-scion-agent-token", "x-rootstock-replica-token"]);

const headerName = z
  .string()
  .regex(HEADER_NAME, "want a header's name")
  .refine((name) => !TAKEN_HEADERS.has(name.toLowerCase()), "this header has a meaning of its own");

const domains = z
  .string()
  .default("")
  .transform((text, context) => {
    const list = listOf(text.toLowerCase());
    const bad = list.find((d) => !/^(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*$/.test(d));
    if (bad === undefined) return list;
    context.addIssue({ code: "custom", message: `"${bad}" is no domain` });
    return z.NEVER;
  });

const emails = z
  .string()
  .default("")
  .transform((text, context) => {
    const set = new Set<string>();
    for (const entry of listOf(text)) {
      const email = parseEmail(entry);
      if (email !== undefined) set.add(email);
      else context.addIssue({ code: "custom", message: `"${entry}" is no e-mail address` });
    }
    return set;
  });

const addresses = z
  .string()
  .transform((text, context) => {
    try {
      return new AddressList(listOf(text));
    } catch (err) {
      context.addIssue({ code: "custom", message: err instanceof Error ? err.message : "no address" });
      return z.NEVER;
    }
  })
  .optional();

const schema = z.object({
  ROOTSTOCK_ACCESS: z
    .enum(["open", "invite_only", "allow_list"], "want open, invite_only or allow_list")
    .default("open"),
  ROOTSTOCK_ADMIN_EMAILS: emails,
  ROOTSTOCK_EMAIL_DOMAINS: domains,
  ROOTSTOCK_HOSTED_DOMAINS: domains,
  ROOTSTOCK_IAP_AUDIENCE: z.string().optional(),
  ROOTSTOCK_IAP_ISSUER: z.string().default(IAP.issuer),
  ROOTSTOCK_IAP_JWKS_URL: httpUrl.default(IAP.jwksUrl),
  ROOTSTOCK_PROXY_JWT_HEADER: headerName.optional(),
  ROOTSTOCK_PROXY_ISSUER: z.string().optional(),
  ROOTSTOCK_PROXY_AUDIENCE: z.string().optional(),
  ROOTSTOCK_PROXY_JWKS_URL: httpUrl.optional(),
  ROOTSTOCK_PROXY_EMAIL_HEADER: headerName.optional(),
  ROOTSTOCK_PROXY_EMAIL_FROM: addresses,
  ROOTSTOCK_LINK_BY_EMAIL: z.string().default("").transform(listOf),
  ROOTSTOCK_TEST_LOGIN: switchOf("0"),
  ROOTSTOCK_ALLOW_REMOTE_TEST_LOGIN: switchOf("0"),
});
type Variables = z.output<typeof schema>;

/** What the variables say of sign-in; no configuration when there is a problem. */
export const parseSignIn = (
  given: Readonly<Record<string, unknown>>,
  /** Whether the replica listens on an address that only this machine reaches. */
  loopback: boolean,
): { readonly config: SignInConfig | undefined; readonly problems: readonly string[] } => {
  const parsed = schema.safeParse(given);
  if (!parsed.success) return { config: undefined, problems: problemsOf(parsed.error) };
  const v = parsed.data;
  const problems: string[] = [];
  const proxy = proxyOf(v, problems);
  const { providers, problems: more } = parseProviders(given, v.ROOTSTOCK_HOSTED_DOMAINS);
  problems.push(...more);
  const from = v.ROOTSTOCK_PROXY_EMAIL_FROM;
  const header = v.ROOTSTOCK_PROXY_EMAIL_HEADER;
  if ((header === undefined) !== (from === undefined))
    problems.push("ROOTSTOCK_PROXY_EMAIL_HEADER, ROOTSTOCK_PROXY_EMAIL_FROM: either needs the other");
  if (v.ROOTSTOCK_TEST_LOGIN && !loopback && !v.ROOTSTOCK_ALLOW_REMOTE_TEST_LOGIN)
    problems.push(
      "ROOTSTOCK_TEST_LOGIN: would be open to the network; set ROOTSTOCK_ALLOW_REMOTE_TEST_LOGIN=1 if that is meant",
    );
  const iap = v.ROOTSTOCK_IAP_AUDIENCE;
  const ways = {
    google: providers.flatMap((p) => (p.name === "google" ? [p.issuer] : [])),
    github: providers.flatMap((p) => (p.kind === "github" ? [p.url] : [])),
    oidc: providers.flatMap((p) => (p.name === "oidc" ? [p.issuer] : [])),
    iap: iap === undefined ? [] : [v.ROOTSTOCK_IAP_ISSUER],
    proxy: proxy === undefined ? [] : [proxy.issuer],
    header: header === undefined ? [] : [headerIssuer(header)],
  };
  const linkByEmail = linkableOf(v.ROOTSTOCK_LINK_BY_EMAIL, problems, ways);
  if (problems.length > 0) return { config: undefined, problems };
  return {
    problems,
    config: {
      admission: {
        mode: v.ROOTSTOCK_ACCESS,
        admins: v.ROOTSTOCK_ADMIN_EMAILS,
        emailDomains: v.ROOTSTOCK_EMAIL_DOMAINS,
        hostedDomains: v.ROOTSTOCK_HOSTED_DOMAINS,
      },
      assertions: [
        ...(iap === undefined
          ? []
          : [{ ...IAP, audience: iap, issuer: v.ROOTSTOCK_IAP_ISSUER, jwksUrl: v.ROOTSTOCK_IAP_JWKS_URL }]),
        ...(proxy ? [proxy] : []),
      ],
      providers,
      testLogin: v.ROOTSTOCK_TEST_LOGIN,
      plainHeader: header !== undefined && from !== undefined ? { header, from } : undefined,
      linkByEmail,
      issuers: storedNames(Object.values(ways).flat()),
    },
  };
};

const proxyOf = (v: Variables, problems: string[]): AssertionRules | undefined => {
  const header = v.ROOTSTOCK_PROXY_JWT_HEADER;
  const issuer = v.ROOTSTOCK_PROXY_ISSUER;
  const audience = v.ROOTSTOCK_PROXY_AUDIENCE;
  const jwksUrl = v.ROOTSTOCK_PROXY_JWKS_URL;
  if (header && issuer && audience && jwksUrl)
    return {
      header,
      issuer,
      audience,
      jwksUrl,
      algorithms: ASSERTION_ALGORITHMS,
      namesGoogleAccounts: issuer === IAP.issuer,
    };
  if (header ?? issuer ?? audience ?? jwksUrl)
    problems.push("ROOTSTOCK_PROXY_JWT_HEADER, _ISSUER, _AUDIENCE, _JWKS_URL: each needs the others");
  return undefined;
};

/**
 * The issuers of a list of ways to sign in. An issuer may also be named as it is stored: one that is not configured any
 * more, whose people come by another from now on.
 */
const linkableOf = (
  list: readonly string[],
  problems: string[],
  ways: Readonly<Record<string, readonly string[]>>,
): ReadonlySet<string> => {
  const issuers = list.flatMap((entry) => {
    if (/^(https?:\/\/|header:)./.test(entry)) return [entry];
    const found = Object.hasOwn(ways, entry) ? ways[entry] : undefined;
    if (!found)
      problems.push(`ROOTSTOCK_LINK_BY_EMAIL: "${entry}" is none of ${Object.keys(ways).join(", ")}, and no issuer`);
    else if (found.length === 0) problems.push(`ROOTSTOCK_LINK_BY_EMAIL: ${entry} is not configured`);
    return found ?? [];
  });
  return storedNames(issuers);
};

const storedNames = (issuers: readonly string[]): ReadonlySet<string> =>
  new Set(issuers.flatMap((issuer) => (issuer === IAP.issuer ? [issuer, GOOGLE_ISSUER] : namesOfIssuer(issuer))));
