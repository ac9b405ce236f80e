import type { Setting } from "./flags.ts";
import { PROVIDER_SETTINGS } from "./providerSettings.ts";

/** Flags of `rootstock replica` about who may sign in, and how. */
export const SIGN_IN_SETTINGS: readonly Setting[] = [
  {
    flag: "--access <rule>",
    env: "ROOTSTOCK_ACCESS",
    description: "who may sign in: open (whoever a provider vouches for), invite_only or allow_list",
    defaultText: "open",
  },
  {
    flag: "--admin-emails <list>",
    env: "ROOTSTOCK_ADMIN_EMAILS",
    description: "addresses that may always sign in and are administrators, separated by commas",
    defaultText: "none",
  },
  {
    flag: "--email-domains <list>",
    env: "ROOTSTOCK_EMAIL_DOMAINS",
    description: "domains of addresses that may sign in; *.example.com stands for every subdomain",
    defaultText: "all",
  },
  {
    flag: "--hosted-domains <list>",
    env: "ROOTSTOCK_HOSTED_DOMAINS",
    description: "Google organisations (hd) whose accounts may sign in",
    defaultText: "all",
  },
  {
    flag: "--link-by-email <list>",
    env: "ROOTSTOCK_LINK_BY_EMAIL",
    description:
      "ways to sign in (google, github, oidc, iap, proxy, header) that open each other's accounts by address",
    defaultText: "none",
  },
  {
    flag: "--iap-audience <text>",
    env: "ROOTSTOCK_IAP_AUDIENCE",
    description: "audience of the Identity-Aware Proxy before the hub; switches sign-in by IAP on",
    defaultText: "off",
  },
  {
    flag: "--iap-issuer <text>",
    env: "ROOTSTOCK_IAP_ISSUER",
    description: "issuer of its assertions",
    defaultText: "Google's",
  },
  {
    flag: "--iap-jwks-url <url>",
    env: "ROOTSTOCK_IAP_JWKS_URL",
    description: "where its public keys are",
    defaultText: "Google's",
  },
  {
    flag: "--proxy-jwt-header <name>",
    env: "ROOTSTOCK_PROXY_JWT_HEADER",
    description: "header in which another proxy passes a signed token on who calls",
    defaultText: "off",
  },
  { flag: "--proxy-issuer <text>", env: "ROOTSTOCK_PROXY_ISSUER", description: "issuer of that token" },
  { flag: "--proxy-audience <text>", env: "ROOTSTOCK_PROXY_AUDIENCE", description: "audience of that token" },
  {
    flag: "--proxy-jwks-url <url>",
    env: "ROOTSTOCK_PROXY_JWKS_URL",
    description: "where the public keys of that proxy are",
  },
  {
    flag: "--proxy-email-header <name>",
    env: "ROOTSTOCK_PROXY_EMAIL_HEADER",
    description: "header in which a proxy passes the address of who calls, in plain text",
    defaultText: "off",
  },
  {
    flag: "--proxy-email-from <list>",
    env: "ROOTSTOCK_PROXY_EMAIL_FROM",
    description: "addresses and networks from which that header is believed; required with it",
  },
  ...PROVIDER_SETTINGS,
  {
    flag: "--test-login",
    env: "ROOTSTOCK_TEST_LOGIN",
    description: "tests that can sign with the hub's key may sign in as anybody (the variable: 1)",
  },
  {
    flag: "--allow-remote-test-login",
    env: "ROOTSTOCK_ALLOW_REMOTE_TEST_LOGIN",
    description: "allows the test login on another address than loopback (the variable: 1)",
  },
];
