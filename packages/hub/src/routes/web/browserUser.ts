import { HubError } from "@rootstock/protocol";
import type { UserPrincipal } from "../../auth/index.ts";
import type { Call, Reply } from "../route.ts";

/** Where people sign in. */
export const LOGIN_PATH = "/login";

/** Where people see which sign-ins open their account. */
export const ACCOUNT_PATH = "/account";

/**
 * Who sits at the browser that makes this call: by its session, or as the proxy before the hub says. For pages, which are
 * open to anyone. Undefined: nobody who is signed in. Throws 403 for somebody who may not come in, and for a call that
 * changes something on behalf of another site.
 */
export const browserUser = async (call: Pick<Call, "reauthenticate">): Promise<UserPrincipal | undefined> => {
  try {
    const principal = await call.reauthenticate();
    return principal.kind === "user" && !principal.limits ? principal : undefined;
  } catch (err) {
    if (err instanceof HubError && err.status === 401) return undefined;
    throw err;
  }
};

/** Sends a browser to sign in and then back to `path` (of this hub, with its query). */
export const signInFirst = (path: string): Reply =>
  redirect(path === "/" ? LOGIN_PATH : `${LOGIN_PATH}?${new URLSearchParams({ returnTo: path })}`);

/** 302, or 303 where a form was sent: the browser looks at `location` with GET. No cache keeps it. */
export const redirect = (location: string, cookies: readonly string[] = [], status: 302 | 303 = 302): Reply => {
  const headers = new Headers({ location, "cache-control": "no-store" });
  for (const cookie of cookies) headers.append("set-cookie", cookie);
  return new Response(null, { status, headers });
};

/** A path of this hub with a query; what is undefined is left out. */
export const withQuery = (path: string, query: Readonly<Record<string, string | undefined>>): string => {
  const given = Object.entries(query).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return given.length === 0 ? path : `${path}?${new URLSearchParams(given)}`;
};

const AWAY_FROM_HERE = /^\/(?:auth|login|invite)(?:[/?#]|$)/;

/**
 * A path of this hub to come back to, from what a request says; `/` for anything that might lead elsewhere, or back to
 * signing in or out.
 */
export const safeReturnTo = (text: string | null | undefined): string => {
  const base = "http://hub.invalid";
  if (!text || text.length > 2_048 || !/^\/[\x21-\x7e]*$/.test(text) || !URL.canParse(text, base)) return "/";
  const url = new URL(text, base);
  const path = url.pathname + url.search + url.hash;
  return url.origin === base && !/^\/[/\\]/.test(path) && !AWAY_FROM_HERE.test(path) ? path : "/";
};
