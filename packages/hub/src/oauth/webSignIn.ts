import { timingSafeEqual } from "node:crypto";
import type { Uuid } from "@rootstock/protocol";
import type { Base } from "@rootstock/service";
import { z } from "zod";
import { clearedCookie, cookieName, findCookie, isSecure, SealedTokens, setCookie, TokenError } from "../auth/index.ts";
import type { ProvenIdentity } from "../people/index.ts";
import type { RootSecrets } from "../secrets/index.ts";
import type { ProviderFailure, SignInProvider } from "./provider.ts";
import type { Providers } from "./providers.ts";

const COOKIE = "rootstock_sign_in";
/** How long somebody may take at the provider, in seconds. */
const SECONDS = 600;

const begun = z.object({
  provider: z.string(),
  redirectUri: z.string(),
  state: z.string().min(1),
  nonce: z.string(),
  codeVerifier: z.string(),
});

/**
 * What the browser keeps while it is at the provider, sealed: any replica may take it back. What links a sign-in has no
 * `returnTo`, so that a replica of a version that knows nothing of linking does not take it for somebody who signs in.
 */
const kept = z.union([
  begun.extend({ returnTo: z.string(), invite: z.string().optional() }),
  begun.extend({ linked: z.object({ returnTo: z.string(), userId: z.string(), signInId: z.string().optional() }) }),
]);
type Kept = z.output<typeof kept>;

/** Whose account a sign-in is to be linked to: who is signed in in this browser, by this very session. */
export interface LinkTo {
  readonly userId: Uuid;
  /** Undefined for whom a proxy vouches for, call by call. */
  readonly signInId?: Uuid | undefined;
}

/** What a sign-in takes along to the provider and back. */
export interface TakenAlong {
  /** A path of this hub. */
  readonly returnTo: string;
  readonly invite?: string | undefined;
  /** Present: nobody signs in, somebody links. */
  readonly link?: LinkTo | undefined;
}

/** Why a callback is not the end of a sign-in that this browser began. */
export class WebSignInError extends Error {
  override readonly name = "WebSignInError";
  readonly failure: "session_error" | "state_mismatch";

  constructor(failure: "session_error" | "state_mismatch", options: ErrorOptions = {}) {
    super(failure, options);
    this.failure = failure;
  }
}

export interface WebSignInOptions {
  readonly secrets: RootSecrets;
  readonly providers: Providers;
}

/**
 * Signing in with a browser: to the provider and back. State, nonce and PKCE verifier are kept by the browser itself in a
 * cookie that it cannot read, good for this once; the hub keeps nothing, so that any replica may take the callback.
 */
export class WebSignIn {
  readonly #base: Base;
  readonly #providers: Providers;
  readonly #sealed: SealedTokens;

  constructor(base: Base, { secrets, providers }: WebSignInOptions) {
    this.#base = base;
    this.#providers = providers;
    this.#sealed = new SealedTokens({ secrets, purpose: "browser-sign-in", clock: base.clock });
  }

  /** Where to send the browser, and the `Set-Cookie` beside it. `origin`: where the browser is. Throws `ProviderError`. */
  async begin(
    provider: SignInProvider,
    origin: string,
    along: TakenAlong,
  ): Promise<{ readonly location: string; readonly cookie: string }> {
    const random = () => this.#base.random.bytes(32).toString("base64url");
    const [state, nonce, codeVerifier] = [random(), random(), random()];
    const redirectUri = `${origin}/auth/callback/${provider.name}`;
    const url = await provider.authorizeUrl({ redirectUri, state, nonce, codeVerifier });
    const name = cookieName(COOKIE, isSecure(origin));
    const claims: z.input<typeof kept> = {
      provider: provider.name,
      redirectUri,
      state,
      nonce,
      codeVerifier,
      ...(along.link
        ? { linked: { returnTo: along.returnTo, ...along.link } }
        : { returnTo: along.returnTo, ...(along.invite && { invite: along.invite }) }),
    };
    const sealed = await this.#sealed.seal(claims, { audience: name, seconds: SECONDS });
    return { location: url.href, cookie: setCookie(name, sealed, SECONDS) };
  }

  /** What this browser took along, whatever comes of it; undefined when it did not begin. */
  async along(headers: Headers): Promise<TakenAlong | undefined> {
    return this.#kept(headers).then(alongOf, () => undefined);
  }

  /** Who came back. Throws {@link WebSignInError} and `ProviderError`. */
  async finish(
    providerName: string,
    headers: Headers,
    params: URLSearchParams,
  ): Promise<TakenAlong & { readonly identity: ProvenIdentity }> {
    const began = await this.#kept(headers);
    const provider = this.#providers.find(began.provider);
    if (!provider || began.provider !== providerName || !same(began.state, params.get("state") ?? ""))
      throw new WebSignInError("state_mismatch");
    const identity = await provider.identityOf({ ...began, params });
    return { identity, ...alongOf(began) };
  }

  /** The `Set-Cookie` after which the same callback does nothing; undefined when there is nothing to take away. */
  cleared(headers: Headers): string | undefined {
    const cookie = findCookie(headers, COOKIE);
    return cookie && clearedCookie(cookie.name);
  }

  async #kept(headers: Headers): Promise<Kept> {
    const cookie = findCookie(headers, COOKIE);
    if (!cookie) throw new WebSignInError("session_error");
    try {
      return kept.parse(await this.#sealed.open(cookie.value, cookie.name));
    } catch (cause) {
      if (cause instanceof TokenError || cause instanceof z.ZodError)
        throw new WebSignInError("session_error", { cause });
      throw cause;
    }
  }
}

const alongOf = (began: Kept): TakenAlong => {
  if (!("linked" in began)) return { returnTo: began.returnTo, invite: began.invite };
  const { returnTo, userId, signInId } = began.linked;
  return { returnTo, link: { userId, signInId } };
};

const same = (a: string, b: string): boolean => {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.byteLength === right.byteLength && timingSafeEqual(left, right);
};

/** All that a page of errors is told: what may come of a callback besides a sign-in. */
export type SignInFailure = ProviderFailure | WebSignInError["failure"];
