/** Providers who vouch for people: OAuth and OpenID Connect. */
export { GithubProvider, type GithubRules } from "./githubProvider.ts";
export { OidcProvider, type OidcRules } from "./oidcProvider.ts";
export * from "./provider.ts";
export * from "./providers.ts";
export * from "./webSignIn.ts";
