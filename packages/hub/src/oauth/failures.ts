import { AuthorizationResponseError, ResponseBodyError, WWWAuthenticateChallengeError } from "openid-client";
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
  return new ProviderError(isNetwork(err) ? "provider_unavailable" : "exchange_failed", textOf(err));
};

/** Whether it did not come to an answer: refused, cut off, too slow, or the other side is broken. */
const isNetwork = (err: unknown): boolean =>
  causesOf(err).some(
    ({ name, code, message, status }) =>
      name === "TimeoutError" ||
      name === "AbortError" ||
      code === "OAUTH_TIMEOUT" ||
      message === "fetch failed" ||
      (typeof status === "number" && status >= 500),
  );

interface Cause {
  readonly name?: unknown;
  readonly code?: unknown;
  readonly message?: unknown;
  /** Of an answer: the library gives what it could not read as the cause. */
  readonly status?: unknown;
}

const MOST_CAUSES = 8;

const causesOf = (err: unknown): readonly Cause[] => {
  const causes: object[] = [];
  let next = err;
  while (typeof next === "object" && next !== null && causes.length < MOST_CAUSES) {
    causes.push(next);
    next = Reflect.get(next, "cause");
  }
  return causes;
};

/** The library's words and code; never its causes, which hold answers. */
const textOf = (err: unknown): string => {
  if (!(err instanceof Error)) return "unknown";
  const code: unknown = Reflect.get(err, "code");
  return typeof code === "string" ? `${code}: ${shown(err.message)}` : shown(err.message);
};

/** Words of the other side, cut and without control characters. */
const shown = (text: string): string => text.replace(/[^\x20-\x7e]/g, " ").slice(0, 200);
