/** Why a sign-in came to nothing, in plain words: what happened, and what to do. */
export interface Reason {
  readonly what: string;
  readonly next: string;
}

const REASONS: Readonly<Record<string, Reason>> = {
  session_error: {
    what: "This sign-in was not begun in this browser, or it took longer than ten minutes.",
    next: "Begin again. The browser has to accept cookies of this site.",
  },
  state_mismatch: {
    what: "The answer does not belong to the sign-in that this browser began last.",
    next: "Begin again, in one tab.",
  },
  access_denied: { what: "The sign-in was cancelled at the provider.", next: "Begin again if that was not meant." },
  provider_error: {
    what: "The provider answered with an error.",
    next: "Begin again; if it stays, an administrator finds the reason in the hub's log.",
  },
  no_code: { what: "The provider sent no code back.", next: "Begin again." },
  exchange_failed: {
    what: "The provider's answer could not be verified.",
    next: "Begin again; if it stays, an administrator finds the reason in the hub's log.",
  },
  provider_unavailable: { what: "The provider cannot be reached.", next: "Try again in a moment." },
  email_unverified: {
    what: "Your account there has no verified e-mail address.",
    next: "Verify your address with the provider, then sign in again.",
  },
  unauthorized_domain: {
    what: "Your account may not sign in here.",
    next: "Ask an administrator of this hub for an invite, or sign in with another account.",
  },
  identity_not_linked: {
    what: "This e-mail address belongs to an account that another sign-in opens.",
    next: "Sign in as you did before, and link this one under “Your sign-ins”. If you cannot, ask an administrator of this hub.",
  },
  link_session: {
    what: "Nothing was linked: somebody else is signed in here by now, or nobody.",
    next: "Sign in, and begin again under “Your sign-ins”.",
  },
  identity_taken: {
    what: "That sign-in opens another account already.",
    next: "Unlink it there first, or ask an administrator of this hub.",
  },
  link_second: {
    what: "Another sign-in of that provider is linked already.",
    next: "Unlink it first.",
  },
  link_not_admitted: {
    what: "That sign-in was not linked: with it nobody may come in here.",
    next: "Choose one that this hub lets in, such as that of your organisation.",
  },
  link_failed: { what: "The hub could not link that sign-in just now.", next: "Try again in a moment." },
  last_sign_in: {
    what: "That is the only sign-in by which you can come in here.",
    next: "Link another one first.",
  },
  sign_in_in_use: {
    what: "That is how the proxy before this hub signs you in: without it you could not come back.",
    next: "Ask an administrator of this hub if it is to go all the same.",
  },
  user_suspended: { what: "Your account is suspended.", next: "An administrator of this hub can lift that." },
  invite_invalid: {
    what: "This invite does not let you in: it is used up, over, revoked, or not meant for your address.",
    next: "Ask for a new one.",
  },
  user_create_failed: { what: "The hub could not sign you in just now.", next: "Try again in a moment." },
  development_token: { what: "That is not the development token.", next: "It is what `npm start` prints." },
  invalid_provider: { what: "This hub does not know that way to sign in.", next: "Choose one of these." },
};

const UNKNOWN: Reason = { what: "The sign-in came to nothing.", next: "Begin again." };

/** The words for an `error` of the address; nothing of the address itself is ever shown. */
export const reasonOf = (error: string | undefined): Reason | undefined =>
  error ? (Object.hasOwn(REASONS, error) ? REASONS[error] : UNKNOWN) : undefined;
