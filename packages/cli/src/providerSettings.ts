import type { Setting } from "./flags.ts";

/** Flags of `rootstock replica` about the providers that people sign in with. */
export const PROVIDER_SETTINGS: readonly Setting[] = [
  {
    flag: "--google-client-id <id>",
    env: "ROOTSTOCK_GOOGLE_CLIENT_ID",
    description: "client id at Google; switches sign-in with Google on",
    defaultText: "off",
  },
  {
    flag: "--google-client-secret <text>",
    env: "ROOTSTOCK_GOOGLE_CLIENT_SECRET",
    description: "client secret at Google",
    secret: true,
  },
  {
    flag: "--google-issuer <url>",
    env: "ROOTSTOCK_GOOGLE_ISSUER",
    description: "issuer of Google's ID tokens",
    defaultText: "https://accounts.google.com",
  },
  {
    flag: "--github-client-id <id>",
    env: "ROOTSTOCK_GITHUB_CLIENT_ID",
    description: "client id at GitHub; switches sign-in with GitHub on",
    defaultText: "off",
  },
  {
    flag: "--github-client-secret <text>",
    env: "ROOTSTOCK_GITHUB_CLIENT_SECRET",
    description: "client secret at GitHub",
    secret: true,
  },
  {
    flag: "--github-url <url>",
    env: "ROOTSTOCK_GITHUB_URL",
    description: "a GitHub Enterprise Server",
    defaultText: "https://github.com",
  },
  {
    flag: "--github-api-url <url>",
    env: "ROOTSTOCK_GITHUB_API_URL",
    description: "its API",
    defaultText: "https://api.github.com, or /api/v3 of a server of one's own",
  },
  {
    flag: "--oidc-issuer <url>",
    env: "ROOTSTOCK_OIDC_ISSUER",
    description: "issuer of any OpenID Connect provider with discovery; switches sign-in with it on",
    defaultText: "off",
  },
  { flag: "--oidc-client-id <id>", env: "ROOTSTOCK_OIDC_CLIENT_ID", description: "client id there" },
  {
    flag: "--oidc-client-secret <text>",
    env: "ROOTSTOCK_OIDC_CLIENT_SECRET",
    description: "client secret there",
    secret: true,
  },
  {
    flag: "--oidc-name <text>",
    env: "ROOTSTOCK_OIDC_NAME",
    description: "what the button for it says",
    defaultText: "Single sign-on",
  },
  {
    flag: "--oidc-scopes <list>",
    env: "ROOTSTOCK_OIDC_SCOPES",
    description: "scopes to ask for, separated by spaces",
    defaultText: "openid email profile",
  },
  {
    flag: "--oidc-trust-emails",
    env: "ROOTSTOCK_OIDC_TRUST_EMAILS",
    description: "addresses count of which that provider does not say whether they are verified (the variable: 1)",
  },
];
