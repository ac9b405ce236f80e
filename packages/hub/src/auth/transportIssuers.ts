import type { Clock, Random } from "@rootstock/service";
import { SignJWT } from "jose";
import { z } from "zod";
import { limitedText } from "./keySet.ts";
import type { SigningKeys } from "./signingKeys.ts";
import type { TransportTokenIssuer } from "./transportTokens.ts";

/** Who issues transport tokens (spec/03 1.6). */

/** How long each question to Google may take, in milliseconds: starts of agents wait for it. */
const TIMEOUT_MS = 5_000;
const MAX_BYTES = 65_536;
const LOCAL_SECONDS = 3_600;

export interface GoogleIssuerOptions {
  readonly fetch: typeof fetch;
  /** The account that the tokens name; the hub's own must be allowed to speak for it. */
  readonly serviceAccount: string;
  /** Where IAM Credentials are served. */
  readonly iamUrl: string;
  /** Where the machine's metadata are served. */
  readonly metadataUrl: string;
}

const accessAnswer = z.object({ access_token: z.string().min(1) });
const idAnswer = z.object({ token: z.string().min(1) });

/** Google's IAM Credentials (`generateIdToken`), asked with the token of the machine or service that the hub runs on. */
export const googleIssuer = (options: GoogleIssuerOptions): TransportTokenIssuer => {
  const ask = async <T>(what: string, url: string, schema: z.ZodType<T>, init: RequestInit): Promise<T> => {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const response = await options.fetch(url, { redirect: "error", ...init, signal });
    if (!response.ok) {
      await response.body?.cancel();
      throw new Error(`${what} answered ${response.status}`);
    }
    const parsed = schema.safeParse(jsonOf(await limitedText(response, MAX_BYTES)));
    if (!parsed.success) throw new Error(`${what} answered without a token`);
    return parsed.data;
  };
  return {
    issue: async (audience) => {
      const own = await ask(
        "the metadata server",
        `${options.metadataUrl}/computeMetadata/v1/instance/service-accounts/default/token`,
        accessAnswer,
        { headers: { "metadata-flavor": "Google" } },
      );
      const account = encodeURIComponent(options.serviceAccount);
      const { token } = await ask(
        "IAM Credentials",
        `${options.iamUrl}/v1/projects/-/serviceAccounts/${account}:generateIdToken`,
        idAnswer,
        {
          method: "POST",
          headers: { authorization: `Bearer ${own.access_token}`, "content-type": "application/json" },
          body: JSON.stringify({ audience, includeEmail: true }),
        },
      );
      return token;
    },
  };
};

/** Undefined for what is no JSON: the parser's own words quote it, and it may be a token. */
const jsonOf = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};

export interface LocalIssuerOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly signingKeys: SigningKeys;
  /** What the tokens name as their issuer; its keys are at `/.well-known/jwks.json` of this hub. */
  readonly issuer: string;
  readonly serviceAccount: string;
}

/** The hub itself, for a proxy of one's own before it and for tests. */
export const localIssuer = (options: LocalIssuerOptions): TransportTokenIssuer => ({
  issue: (audience) => {
    const now = Math.floor(options.clock.now() / 1000);
    const token = new SignJWT({ email: options.serviceAccount, email_verified: true })
      .setIssuer(options.issuer)
      .setSubject(options.serviceAccount)
      .setAudience(audience)
      .setIssuedAt(now)
      .setExpirationTime(now + LOCAL_SECONDS)
      .setJti(options.random.uuid());
    // A type of its own: no token that lets an agent through a proxy is any other kind of token of this hub.
    return options.signingKeys.sign(token, "rootstock-transport+jwt");
  },
});
