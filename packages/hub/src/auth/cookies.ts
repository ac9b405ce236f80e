/** Cookies of the hub: what stands in `Cookie` and `Set-Cookie`. */

/** A cookie that a request carries, under the name that it has there. */
export interface FoundCookie {
  readonly name: string;
  readonly value: string;
}

/** Browsers take a cookie so named over TLS only, for this very host and every path: no other host can plant it. */
const HOST_PREFIX = "__Host-";

/** The name of a cookie where TLS is, and where it is not. */
export const cookieName = (name: string, secure: boolean): string => (secure ? HOST_PREFIX + name : name);

/** The cookie of this name; the one that came over TLS before one that did not. */
export const findCookie = (headers: Headers, name: string): FoundCookie | undefined => {
  const header = headers.get("cookie");
  if (header === null || !header.includes(name)) return undefined;
  const found = new Map<string, string>();
  for (const part of header.split(";")) {
    const at = part.indexOf("=");
    const key = part.slice(0, at).trim();
    if (at > 0 && !found.has(key)) found.set(key, part.slice(at + 1).trim());
  }
  for (const candidate of [HOST_PREFIX + name, name]) {
    const value = found.get(candidate);
    if (value) return { name: candidate, value };
  }
  return undefined;
};

/** A `Set-Cookie` for the whole host, hidden from scripts, not sent along by other sites' forms. `name` as found or made. */
export const setCookie = (name: string, value: string, maxAgeSeconds: number): string =>
  [
    `${name}=${value}`,
    "Path=/",
    `Max-Age=${maxAgeSeconds}`,
    "HttpOnly",
    "SameSite=Lax",
    ...(name.startsWith(HOST_PREFIX) ? ["Secure"] : []),
  ].join("; ");

/** A `Set-Cookie` that takes the cookie away. */
export const clearedCookie = (name: string): string => setCookie(name, "", 0);
