import { ON_EVERY_ANSWER } from "../control/index.ts";

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
  for (const [name, value] of ON_EVERY_ANSWER) if (!headers.has(name)) headers.set(name, value);
  if (tls) headers.set("strict-transport-security", STRICT_TRANSPORT);
  if (!headers.get("content-type")?.startsWith("text/html")) return;
  for (const [name, value] of DOCUMENTS) if (!headers.has(name)) headers.set(name, value);
};
