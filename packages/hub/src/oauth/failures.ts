import {
  AuthorizationResponseError,
  ClientError,
  ResponseBodyError,
  WWWAuthenticateChallengeError,
} from "openid-client";
import { ProviderError } from "./provider.ts";

/** How long a provider may take to answer, in seconds. */
export const PROVIDER_TIMEOUT_SECONDS = 10;

/** Runs what talks to a provider. What it throws becomes a {@link ProviderError}, in words without any token or code. */
export const asked = async <T>(work: () => Promise<T>): Promise<T> => {
  try {
    return await work();
  } catch (err) {
    throw providerError(err);
  }
};

const providerError = (err: unknown): ProviderError => {
  if (err instanceof ProviderError) return err;
  if (err instanceof AuthorizationResponseError)
    return err.error === "access_denied"
      ? new ProviderError("access_denied", "the person refused")
      : new ProviderError("provider_error", shown(err.error));
  if (err instanceof ResponseBodyError) return new ProviderError("exchange_failed", `answered ${shown(err.error)}`);
  if (err instanceof WWWAuthenticateChallengeError)
    return new ProviderError("exchange_failed", `answered ${err.status} to the token that it gave`);
  if (err instanceof ClientError)
    return new ProviderError(isNetwork(err) ? UNAVAILABLE : "exchange_failed", textOf(err));
  return new ProviderError(isNetwork(err) ? UNAVAILABLE : "exchange_failed", textOf(err));
};

const UNAVAILABLE = "provider_unavailable";

/** Whether it did not come to an answer: refused, cut off, or too slow. */
const isNetwork = (err: unknown): boolean => {
  for (let e = err; e instanceof Error; e = e.cause)
    if (e.name === "TimeoutError" || e.name === "AbortError" || e.message === "fetch failed") return true;
  return err instanceof ClientError && err.code === "OAUTH_RESPONSE_IS_NOT_CONFORM" && statusOf(err) >= 500;
};

const statusOf = (err: Error): number => (err.cause instanceof Response ? err.cause.status : 0);

/** The library's words and code; never its causes, which hold answers. */
const textOf = (err: unknown): string => {
  if (!(err instanceof Error)) return "unknown";
  const code: unknown = Reflect.get(err, "code");
  return typeof code === "string" ? `${code}: ${shown(err.message)}` : shown(err.message);
};

/** Words of the other side, cut and without control characters. */
const shown = (text: string): string => text.replace(/[^\x20-\x7e]/g, " ").slice(0, 200);
