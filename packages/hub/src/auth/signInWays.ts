import { HubError } from "@rootstock/protocol";

/** How people can sign in to this hub with a browser, for programs that ask before they send somebody there. */
export interface SignInWays {
  /** Names of the providers at which they can. */
  readonly providers: readonly string[];
  /** Whether they can without a provider: by a proxy before the hub, or as the development user. */
  readonly otherwise: boolean;
}

/** What a program logs in by. */
export type LoginFlow = "cli" | "device";

/** Stands for whatever way the person chooses on the hub's own page. */
const ANY = "hub";
/** The names that the unmodified CLI knows. It tries them in turn where it does not ask which there are. */
const KNOWN_TO_CLI: readonly string[] = ["google", "github"];
const FLOW_NAMES: Readonly<Record<LoginFlow, string>> = { cli: "CLI", device: "device flow" };

/**
 * The providers that a program is told of. The CLI goes on with exactly one, whatever its name, and gives up with none or
 * two; since the person chooses on the hub's page anyway, there is always exactly one where there is any way at all.
 */
export const providersFor = (ways: SignInWays, flow: LoginFlow | "web"): readonly string[] => {
  const { providers, otherwise } = ways;
  if (flow === "web") return providers;
  if (providers.length === 1 && !otherwise) return providers;
  return providers.length > 0 || otherwise ? [ANY] : [];
};

/**
 * The provider that a program would like, if it is to be a certain one. Throws 501 where nobody can sign in, and 400
 * `validation_error` for one that there is not, in the words that the CLI looks for before it tries the next.
 */
export const askedProvider = (ways: SignInWays, flow: LoginFlow, given: string | undefined): string | undefined => {
  const { providers, otherwise } = ways;
  if (providers.length === 0 && !otherwise)
    throw new HubError("not_implemented", "no way to sign in is configured on this hub");
  const name = given?.trim().toLowerCase();
  if (!name || name === ANY) return undefined;
  if (providers.includes(name)) return name;
  // Without --provider the device flow begins with a guess: where all of its guesses are wrong the first one is as good.
  const guess = flow === "device" && KNOWN_TO_CLI.includes(name) && !KNOWN_TO_CLI.some((p) => providers.includes(p));
  if (guess) return undefined;
  throw new HubError(
    "validation_error",
    `OAuth provider not configured for ${FLOW_NAMES[flow]}: ${name.slice(0, 50)}`,
    {
      details: { field: "provider", configured: providersFor(ways, flow) },
    },
  );
};
