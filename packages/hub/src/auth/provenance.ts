import { HubError } from "@rootstock/protocol";
import type { Credentials } from "./credentials.ts";

/**
 * Which page made a browser send a request. Cookies, and the sign-in of a proxy, go along with whatever any page makes the
 * browser do; so a call that they alone authorise and that changes something must come from a page of this hub.
 */
export type Provenance = "same-origin" | "cross-origin" | "unknown";

/**
 * Where a request comes from. Browsers say so themselves over TLS and on loopback (`Sec-Fetch-Site`), and name the origin
 * of the page with every other call that is no mere navigation. `publicHost`: this hub's, where it is configured.
 */
export const provenanceOf = (headers: Headers, publicHost: string | undefined): Provenance => {
  const site = headers.get("sec-fetch-site");
  // "none": typed, or a page that is loaded again.
  if (site !== null) return site === "same-origin" || site === "none" ? "same-origin" : "cross-origin";
  const origin = headers.get("origin");
  if (origin === null) return "unknown";
  const host = URL.canParse(origin) ? new URL(origin).host : "";
  return host !== "" && (host === publicHost || host === headers.get("host")) ? "same-origin" : "cross-origin";
};

/** Whether a request may change something: not a mere look, or the opening of a socket, through which anything may follow. */
export const mayChange = ({ method, headers }: Pick<Credentials, "method" | "headers">): boolean =>
  !["GET", "HEAD", "OPTIONS"].includes(method) || headers.get("upgrade") !== null;

/** What a call of another site's page gets. */
export const crossOriginRefusal = (): HubError =>
  new HubError(
    "forbidden",
    "a page of another site may not do this; if it is this hub's own, set ROOTSTOCK_PUBLIC_URL",
  );
