import { expect, test } from "@jest/globals";
import { askedProvider, providersFor, type SignInWays } from "./signInWays.ts";

const NONE: SignInWays = { providers: [], otherwise: false };
const GOOGLE: SignInWays = { providers: ["google"], otherwise: false };
const GITHUB: SignInWays = { providers: ["github"], otherwise: false };
const BOTH: SignInWays = { providers: ["google", "github"], otherwise: false };
const OIDC: SignInWays = { providers: ["oidc"], otherwise: false };
const PROXY: SignInWays = { providers: [], otherwise: true };
const GOOGLE_IN_DEVELOPMENT: SignInWays = { providers: ["google"], otherwise: true };

test("the CLI goes on with exactly one provider: there is one wherever there is any way to sign in (spec/03 3.2)", () => {
  for (const ways of [GOOGLE, GITHUB, BOTH, OIDC, PROXY, GOOGLE_IN_DEVELOPMENT])
    for (const flow of ["cli", "device"] as const) {
      const [provider, ...more] = providersFor(ways, flow);
      expect(more).toEqual([]);
      // And it may then ask for just that one.
      expect(() => askedProvider(ways, flow, provider)).not.toThrow();
    }
  expect(providersFor(GOOGLE, "cli")).toEqual(["google"]);
  expect(providersFor(BOTH, "web")).toEqual(["google", "github"]);
  expect(providersFor(NONE, "cli")).toEqual([]);
});

/** What the unmodified CLI does without --provider: google, then github if the answer is in these words (spec/03 3.3). */
const deviceFlow = (ways: SignInWays): string | undefined => {
  for (const provider of ["google", "github"])
    try {
      return askedProvider(ways, "device", provider) ?? "any";
    } catch (err) {
      if (!String(Reflect.get(Object(err), "message")).includes("provider not configured")) throw err;
    }
  return undefined;
};

test("the CLI's device flow, which guesses, goes on in every configuration", () => {
  expect([GOOGLE, GITHUB, BOTH, OIDC, PROXY, GOOGLE_IN_DEVELOPMENT].map(deviceFlow)).toEqual([
    "google",
    "github",
    "google",
    "any",
    "any",
    "google",
  ]);
});

test("a provider that is asked for by name and not there is refused in the words that clients know", () => {
  for (const [ways, flow, message] of [
    [GOOGLE, "cli", "OAuth provider not configured for CLI: github"],
    [OIDC, "cli", "OAuth provider not configured for CLI: github"],
    [GOOGLE, "device", "OAuth provider not configured for device flow: github"],
  ] as const)
    expect(() => askedProvider(ways, flow, "GitHub ")).toThrow(
      expect.objectContaining({ code: "validation_error", message }),
    );
  expect(() => askedProvider(NONE, "cli", undefined)).toThrow(expect.objectContaining({ code: "not_implemented" }));
});
