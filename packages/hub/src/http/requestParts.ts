import type { HttpBindings } from "@hono/node-server";
import { HubError } from "@rootstock/protocol";
import type { Context } from "hono";
import type { Route } from "../routes/index.ts";
import type { IncomingBody } from "./body.ts";

/** What a request says, from Node's own where there is one, and of what others say about it what may be believed. */

/** Whom a request's own words are believed. */
export interface Believed {
  readonly publicUrl: string | undefined;
  /** Whether what a peer with this address says about the client's own request may be believed. */
  readonly trustsPeer: (address: string) => boolean;
}

/** The query, with lists where the route takes a name more than once. */
export const queryOf = (c: Context, route: Route): Record<string, string | string[]> => {
  const query: Record<string, string | string[]> = c.req.query();
  for (const name of route.repeated ?? []) query[name] = c.req.queries(name) ?? [];
  return query;
};

/** The request's body, from Node's own stream where there is one: a web stream of it costs more than the handler. */
export const bodyOf = (c: Context): IncomingBody => {
  const { raw, method } = c.req;
  const incoming = incomingOf(c);
  return {
    method,
    headers: raw.headers,
    bytes: () => incoming ?? raw.body,
  };
};

/** The address of the other end of the connection; empty where there is none, as in tests without a socket. */
export const peerAddress = (c: Context): string => incomingOf(c)?.socket.remoteAddress ?? "";

/** Node's own request; undefined where there is none. */
export const incomingOf = (c: Context): HttpBindings["incoming"] | undefined => {
  const env: unknown = c.env;
  return typeof env === "object" && env !== null && "incoming" in env ? (env as HttpBindings).incoming : undefined;
};

/** Path and query (without `?`) of a URL in normal form, as requests have theirs: to take it apart costs more. */
export const targetOf = (url: string): { readonly path: string; readonly query: string } => {
  const from = url.indexOf("/", url.indexOf("://") + 3);
  const fragment = url.indexOf("#", from);
  const end = fragment < 0 ? url.length : fragment;
  const mark = url.indexOf("?", from);
  if (mark < 0 || mark > end) return { path: url.slice(from, end), query: "" };
  return { path: url.slice(from, mark), query: url.slice(mark + 1, end) };
};

/** The Host as it stands in a URL; only what ends in a number or is written in Punycode may be none. */
const PERHAPS_NO_HOST = /(?:^|\.)(?:\d|xn--)/;

/**
 * Throws 400 for a URL that is none, for its host. Only the characters of that were looked at: `256.256.256.256` is found
 * out by whoever takes the URL apart, in the middle of an answer.
 */
export const demandHost = (url: string): void => {
  const from = url.indexOf("://") + 3;
  if (PERHAPS_NO_HOST.test(url.slice(from, url.indexOf("/", from))) && !URL.canParse(url))
    throw new HubError("invalid_request", "the Host header is not valid");
};

/** Throws 400 for a path that is not valid percent-encoding. */
export const decodePath = (path: string): string => {
  if (!path.includes("%")) return path;
  try {
    return decodeURIComponent(path);
  } catch (err) {
    throw new HubError("invalid_request", "the path is not valid percent-encoding", { cause: err });
  }
};

/** Whether the client has come by TLS: to a proxy, as a rule. */
export const isTls = (c: Context, options: Believed): boolean => {
  if (options.publicUrl) return options.publicUrl.startsWith("https:");
  const forwarded = c.req.header("x-forwarded-proto");
  return forwarded?.split(",")[0]?.trim() === "https" && options.trustsPeer(peerAddress(c));
};

/** Where the client has reached the hub: as configured, as a trusted proxy says, or as the request does. */
export const originOf = (c: Context, url: URL, options: Believed): string => {
  if (options.publicUrl) return options.publicUrl;
  if (!options.trustsPeer(peerAddress(c))) return url.origin;
  const scheme = c.req.header("x-forwarded-proto")?.split(",")[0]?.trim() ?? url.protocol.replace(":", "");
  const host = c.req.header("x-forwarded-host")?.split(",")[0]?.trim() ?? url.host;
  return /^https?$/.test(scheme) && /^[A-Za-z0-9.:[\]-]+$/.test(host) ? `${scheme}://${host}` : url.origin;
};
