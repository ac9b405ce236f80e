/** On every answer that does not say otherwise: it is no document, is in nobody's frame, and no cache keeps it. */
const EVERY: readonly (readonly [string, string])[] = [
  ["x-content-type-options", "nosniff"],
  ["content-security-policy", "default-src 'none'; frame-ancestors 'none'"],
  ["referrer-policy", "no-referrer"],
  ["cache-control", "no-store"],
];

/** Besides, on documents: nothing of the machine is asked for, and no window of another site has a hand on this one. */
const DOCUMENTS: readonly (readonly [string, string])[] = [
  ["x-frame-options", "DENY"],
  ["cross-origin-opener-policy", "same-origin"],
  ["cross-origin-resource-policy", "same-origin"],
  ["permissions-policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=(), browsing-topics=()"],
];

/** A year. Not for the domains below, which are not ours. */
const STRICT_TRANSPORT = "max-age=31536000";

/** Adds what keeps browsers from making more of an answer than it is. `tls`: whether the client has come by it. */
export const addSecurityHeaders = (headers: Headers, tls: boolean): void => {
  for (const [name, value] of EVERY) if (!headers.has(name)) headers.set(name, value);
  if (tls) headers.set("strict-transport-security", STRICT_TRANSPORT);
  if (!headers.get("content-type")?.startsWith("text/html")) return;
  for (const [name, value] of DOCUMENTS) if (!headers.has(name)) headers.set(name, value);
};
