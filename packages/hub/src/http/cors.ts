/** Which origins' pages may read answers of the API: any, or these. */
export type CorsOrigins = "any" | ReadonlySet<string>;

/**
 * Reads the configuration: `*` for any, `none`, or a list. Throws `RangeError` for what is no origin.
 */
export const parseCorsOrigins = (text: string): CorsOrigins => {
  if (text.trim() === "*") return "any";
  if (text.trim() === "none") return new Set();
  const origins = text.split(",").map((entry) => entry.trim());
  for (const origin of origins)
    if (!URL.canParse(origin) || new URL(origin).origin !== origin)
      throw new RangeError(`"${origin}" is no origin such as https://pages.example.org`);
  return new Set(origins);
};

const ALLOWED_METHODS = "GET, POST, PUT, PATCH, DELETE, OPTIONS";
const ALLOWED_HEADERS =
  "Authorization, Content-Type, X-Scion-Agent-Token, X-Request-ID, Idempotency-Key, Last-Event-ID, Traceparent";
const EXPOSED_HEADERS = "X-Request-ID, Retry-After, RateLimit, RateLimit-Policy, Deprecation, Sunset, Link";
const MAX_AGE_SECONDS = "3600";

/** Only the API is for other sites' pages, and never with the browser's own credentials (spec/03 section 2). */
const isApi = (path: string): boolean => path.startsWith("/api/v1/") && !path.startsWith("/api/v1/internal/");

const allowed = (origins: CorsOrigins, path: string, origin: string): boolean =>
  isApi(path) && (origins === "any" || origins.has(origin));

/** What a page of this origin may know of the answer. No origin is ever allowed to send cookies along. */
export const addCorsHeaders = (headers: Headers, origins: CorsOrigins, path: string, origin: string): void => {
  if (!allowed(origins, path, origin)) return;
  headers.set("access-control-allow-origin", origin);
  headers.set("access-control-expose-headers", EXPOSED_HEADERS);
  headers.append("vary", "Origin");
};

/** The answer to a browser that asks before it sends; undefined for an origin that may not. */
export const preflight = (origins: CorsOrigins, path: string, origin: string): Response | undefined => {
  if (!allowed(origins, path, origin)) return undefined;
  return new Response(null, {
    status: 204,
    headers: {
      "access-control-allow-methods": ALLOWED_METHODS,
      "access-control-allow-headers": ALLOWED_HEADERS,
      "access-control-max-age": MAX_AGE_SECONDS,
    },
  });
};
