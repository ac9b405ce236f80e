import type { ProvenIdentity } from "../people/index.ts";

/** The names of providers as they stand in paths and in what clients ask for. */
export const PROVIDER_NAMES = ["google", "github", "oidc"] as const;
export type ProviderName = (typeof PROVIDER_NAMES)[number];

/** What a browser is sent to a provider with. */
export interface AuthorizationRequest {
  /** Where the provider sends the browser back to; registered there. */
  readonly redirectUri: string;
  readonly state: string;
  /** Comes back in the ID token: such a token is good for this sign-in alone. */
  readonly nonce?: string | undefined;
  /** PKCE (RFC 7636): only who began may exchange the code. 43 to 128 characters. */
  readonly codeVerifier?: string | undefined;
}

/** What a browser came back with, and what it was sent with. */
export interface AuthorizationResponse extends Omit<AuthorizationRequest, "state"> {
  /** Undefined: the answer must not carry one, somebody else has compared it. */
  readonly state?: string | undefined;
  /** The query of the callback, as it came. */
  readonly params: URLSearchParams;
  /**
   * Whether somebody else took the callback and may have handed on no more than the code, as clients from before RFC 9207
   * do: what says from which provider it came is checked then if it is there. Otherwise it has to be, where a provider
   * promises it.
   */
  readonly relayed?: boolean | undefined;
}

/** Somebody who vouches for people. */
export interface SignInProvider {
  readonly name: ProviderName;
  /** As people know it. */
  readonly label: string;
  /** By which its people are stored. */
  readonly issuer: string;
  /** Where to send a browser. Throws {@link ProviderError} when the provider cannot be asked how it works. */
  authorizeUrl(request: AuthorizationRequest): Promise<URL>;
  /** Who came back; the code is exchanged. Throws {@link ProviderError}. */
  identityOf(response: AuthorizationResponse): Promise<ProvenIdentity>;
  /**
   * Whose token a client has got from the provider by itself, if it was made for this hub's own client id. Throws
   * {@link ProviderError}: a token for another application proves nothing here.
   */
  identityOfToken(token: string): Promise<ProvenIdentity>;
}

/** Why a provider's answer lets nobody in. The codes go to pages, as `error` of /login (spec/03 3.5). */
export type ProviderFailure =
  /** The person said no. */
  | "access_denied"
  /** The provider answered with an error of its own. */
  | "provider_error"
  | "no_code"
  /** The code, or what it was exchanged for, is not right. */
  | "exchange_failed"
  /** Right, but the provider does not vouch for an address. */
  | "email_unverified"
  | "provider_unavailable";

/** A provider vouches for nobody. `reason`: for the log, without anything secret. */
export class ProviderError extends Error {
  override readonly name = "ProviderError";
  readonly failure: ProviderFailure;

  constructor(failure: ProviderFailure, reason: string, options: ErrorOptions = {}) {
    super(reason, options);
    this.failure = failure;
  }
}
