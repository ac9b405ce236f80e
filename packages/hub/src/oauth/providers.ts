import { GithubProvider, type GithubRules } from "./githubProvider.ts";
import { OidcProvider, type OidcRules, type ProviderDeps } from "./oidcProvider.ts";
import type { SignInProvider } from "./provider.ts";

export type ProviderRules = OidcRules | GithubRules;

/** The providers that are configured, in the order in which people see them. */
export class Providers {
  readonly all: readonly SignInProvider[];

  constructor(rules: readonly ProviderRules[], deps: ProviderDeps) {
    this.all = rules.map((r) => (r.kind === "github" ? new GithubProvider(r, deps) : new OidcProvider(r, deps)));
  }

  /** Undefined when there is none of this name. */
  find(name: string): SignInProvider | undefined {
    return this.all.find((provider) => provider.name === name);
  }
}
