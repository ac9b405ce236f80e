import { type ErrorCode, HubError } from "@rootstock/protocol";
import { actingFor } from "@rootstock/store";
import type { UserPrincipal } from "../../auth/index.ts";
import { type LinkTo, ProviderError, WebSignInError } from "../../oauth/index.ts";
import type { LinkedSignIns, ProvenIdentity } from "../../people/index.ts";
import type { Call } from "../route.ts";
import { browserUser } from "./browserUser.ts";

/** Does something to the account of whoever is signed in, on their behalf. */
export const onBehalfOf = <T>({ id, email, session }: UserPrincipal, work: () => T): T =>
  actingFor(
    { kind: "user", id, email, credential: session ? "session" : "proxy", credentialId: session?.signInId },
    work,
  );

/**
 * Links an identity that a browser came back with, if who began is still signed in there, by the same session: a link that
 * was begun by somebody else, or for somebody else, gives nobody a way into an account. Throws 401 for it, and what
 * {@link LinkedSignIns.link} throws.
 */
export const linkTo = async (
  linkedSignIns: Pick<LinkedSignIns, "link">,
  call: Call,
  { userId, signInId }: LinkTo,
  identity: ProvenIdentity,
): Promise<void> => {
  const user = await browserUser(call);
  if (!user || user.id !== userId || user.session?.signInId !== signInId)
    throw new HubError("unauthorized", "who began to link is not signed in here any more");
  await onBehalfOf(user, () => linkedSignIns.link(userId, identity));
};

const CODES: Readonly<Partial<Record<ErrorCode, string>>> = {
  unauthorized: "link_session",
  identity_taken: "identity_taken",
  conflict: "link_second",
  unauthorized_domain: "link_not_admitted",
  user_suspended: "user_suspended",
};

/** Why a link came to nothing, as `error` of the page that says so. */
export const linkFailureOf = (err: unknown): string => {
  if (err instanceof ProviderError || err instanceof WebSignInError) return err.failure;
  return (err instanceof HubError && CODES[err.code]) || "link_failed";
};
