import { z } from "zod";
import { problemsOf, switchOf } from "./configValues.ts";
import type { GithubRules, OidcRules, ProviderRules } from "./oauth/index.ts";

/** The variables of providers that people sign in with, and what they mean. */
export const PROVIDER_VARIABLES = {
  ROOTSTOCK_GOOGLE_CLIENT_ID: "client id at Google; turns sign-in with Google on",
  ROOTSTOCK_GOOGLE_CLIENT_SECRET: "client secret at Google",
  ROOTSTOCK_GOOGLE_ISSUER: "issuer of Google's ID tokens (default https://accounts.google.com)",
  ROOTSTOCK_GITHUB_CLIENT_ID: "client id at GitHub; turns sign-in with GitHub on",
  ROOTSTOCK_GITHUB_CLIENT_SECRET: "client secret at GitHub",
  ROOTSTOCK_GITHUB_URL: "a GitHub Enterprise Server (default https://github.com)",
  ROOTSTOCK_GITHUB_API_URL: "its API (default https://api.github.com, or /api/v3 of a server of one's own)",
  ROOTSTOCK_OIDC_ISSUER: "issuer of any OpenID Connect provider with discovery; turns sign-in with it on",
  ROOTSTOCK_OIDC_CLIENT_ID: "client id there",
  ROOTSTOCK_OIDC_CLIENT_SECRET: "client secret there",
  ROOTSTOCK_OIDC_NAME: "what the button says (default Single sign-on)",
  ROOTSTOCK_OIDC_SCOPES: "scopes to ask for (default openid email profile)",
  ROOTSTOCK_OIDC_TRUST_EMAILS: "1: addresses count of which that provider does not say whether they are verified",
} as const;

const GOOGLE = "https://accounts.google.com";
const GITHUB = "https://github.com";
const GITHUB_API = "https://api.github.com";

const isLoopbackHost = (host: string): boolean => host === "localhost" || host === "[::1]" || /^127\./.test(host);
const plainHttp = (url: string): boolean => url.startsWith("http:");

/** An address that secrets may be sent to: by TLS, or to this very machine. As it is: an issuer's last slash counts. */
const issuerUrl = z.string().refine((text) => {
  if (!URL.canParse(text)) return false;
  const url = new URL(text);
  return url.protocol === "https:" || (url.protocol === "http:" && isLoopbackHost(url.hostname));
}, "want https://…");

/** Such an address without slashes at its end. */
const serverUrl = issuerUrl.transform((text) => text.replace(/\/+$/, ""));

const id = z.string().trim().min(1).max(512).optional();
const secret = z.string().min(1).max(512).optional();

const schema = z.object({
  ROOTSTOCK_GOOGLE_CLIENT_ID: id,
  ROOTSTOCK_GOOGLE_CLIENT_SECRET: secret,
  ROOTSTOCK_GOOGLE_ISSUER: issuerUrl.default(GOOGLE),
  ROOTSTOCK_GITHUB_CLIENT_ID: id,
  ROOTSTOCK_GITHUB_CLIENT_SECRET: secret,
  ROOTSTOCK_GITHUB_URL: serverUrl.default(GITHUB),
  ROOTSTOCK_GITHUB_API_URL: serverUrl.optional(),
  ROOTSTOCK_OIDC_ISSUER: issuerUrl.optional(),
  ROOTSTOCK_OIDC_CLIENT_ID: id,
  ROOTSTOCK_OIDC_CLIENT_SECRET: secret,
  ROOTSTOCK_OIDC_NAME: z.string().trim().min(1).max(60).default("Single sign-on"),
  ROOTSTOCK_OIDC_SCOPES: z
    .string()
    .default("openid email profile")
    .refine((text) => text.split(/\s+/).includes("openid"), "openid must be among them"),
  ROOTSTOCK_OIDC_TRUST_EMAILS: switchOf("0"),
});
type Variables = z.output<typeof schema>;

/** What the variables say of providers; none when there is a problem. `hostedDomains`: as the rules of admission have them. */
export const parseProviders = (
  given: Readonly<Record<string, unknown>>,
  hostedDomains: readonly string[],
): { readonly providers: readonly ProviderRules[]; readonly problems: readonly string[] } => {
  const parsed = schema.safeParse(given);
  if (!parsed.success) return { providers: [], problems: problemsOf(parsed.error) };
  const problems: string[] = [];
  const providers = [
    google(parsed.data, hostedDomains, problems),
    github(parsed.data, problems),
    oidc(parsed.data, problems),
  ];
  return { providers: problems.length > 0 ? [] : providers.filter((p) => p !== undefined), problems };
};

const google = (v: Variables, hostedDomains: readonly string[], problems: string[]): OidcRules | undefined => {
  const [clientId, clientSecret] = [v.ROOTSTOCK_GOOGLE_CLIENT_ID, v.ROOTSTOCK_GOOGLE_CLIENT_SECRET];
  const [domain, ...more] = hostedDomains;
  if (clientId && clientSecret)
    return {
      kind: "oidc",
      name: "google",
      label: "Google",
      issuer: v.ROOTSTOCK_GOOGLE_ISSUER,
      clientId,
      clientSecret,
      scope: "openid email profile",
      // A hint for Google's own page; whether the account is of that domain is checked when it comes back.
      more: { prompt: "select_account", ...(domain !== undefined && more.length === 0 && { hd: domain }) },
      trustsEmails: false,
      plainHttp: plainHttp(v.ROOTSTOCK_GOOGLE_ISSUER),
    };
  if (clientId ?? clientSecret)
    problems.push("ROOTSTOCK_GOOGLE_CLIENT_ID, ROOTSTOCK_GOOGLE_CLIENT_SECRET: either needs the other");
  return undefined;
};

const github = (v: Variables, problems: string[]): GithubRules | undefined => {
  const [clientId, clientSecret] = [v.ROOTSTOCK_GITHUB_CLIENT_ID, v.ROOTSTOCK_GITHUB_CLIENT_SECRET];
  const url = v.ROOTSTOCK_GITHUB_URL;
  if (clientId && clientSecret)
    return {
      kind: "github",
      name: "github",
      label: url === GITHUB ? "GitHub" : "GitHub Enterprise",
      url,
      apiUrl: v.ROOTSTOCK_GITHUB_API_URL ?? (url === GITHUB ? GITHUB_API : `${url}/api/v3`),
      clientId,
      clientSecret,
      plainHttp: plainHttp(url),
    };
  if (clientId ?? clientSecret)
    problems.push("ROOTSTOCK_GITHUB_CLIENT_ID, ROOTSTOCK_GITHUB_CLIENT_SECRET: either needs the other");
  return undefined;
};

const oidc = (v: Variables, problems: string[]): OidcRules | undefined => {
  const issuer = v.ROOTSTOCK_OIDC_ISSUER;
  const [clientId, clientSecret] = [v.ROOTSTOCK_OIDC_CLIENT_ID, v.ROOTSTOCK_OIDC_CLIENT_SECRET];
  if (issuer && clientId && clientSecret)
    return {
      kind: "oidc",
      name: "oidc",
      label: v.ROOTSTOCK_OIDC_NAME,
      issuer,
      clientId,
      clientSecret,
      scope: v.ROOTSTOCK_OIDC_SCOPES,
      more: {},
      trustsEmails: v.ROOTSTOCK_OIDC_TRUST_EMAILS,
      plainHttp: plainHttp(issuer),
    };
  if (issuer ?? clientId ?? clientSecret)
    problems.push("ROOTSTOCK_OIDC_ISSUER, _CLIENT_ID, _CLIENT_SECRET: each needs the others");
  return undefined;
};
