import { SimulatedGithub, SimulatedOidc } from "@rootstock/testkit";

/** The providers at which people sign in, each simulated: what is asked of them is answered. */
export interface Providers {
  /** What a replica needs to know of them. */
  readonly env: Readonly<Record<string, string>>;
  /** Tokens that they have given to this hub's own clients. */
  readonly tokens: readonly string[];
  stop(): Promise<void>;
}

export const startProviders = async (): Promise<Providers> => {
  const oidc = await SimulatedOidc.start();
  const google = await SimulatedOidc.start();
  const github = await SimulatedGithub.start();
  return {
    env: { ...oidc.environment(), ...google.environment("google"), ...github.environment() },
    tokens: [
      await google.idToken(google.account, google.clientId),
      github.tokenFor(github.clientId),
      await oidc.idToken(oidc.account, oidc.clientId),
    ],
    stop: async () => {
      await Promise.all([oidc.stop(), google.stop(), github.stop()]);
    },
  };
};
