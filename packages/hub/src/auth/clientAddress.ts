import { isIP } from "node:net";
import { plainAddress } from "./addressList.ts";

/** More hops than any chain of proxies has; a client may send a header of any length. */
const MOST_HOPS = 32;

/**
 * The address that a request came from. `X-Forwarded-For` is believed hop by hop, from the right, as long as those who
 * wrote it are trusted: what stands further left may be made up by the client.
 */
export const clientAddress = (
  peer: string,
  forwardedFor: string | null | undefined,
  trusts: (address: string) => boolean,
): string => {
  let address = plainAddress(peer);
  if (!forwardedFor || !trusts(address)) return address;
  for (const hop of forwardedFor.split(",").slice(-MOST_HOPS).reverse()) {
    const named = hopAddress(hop);
    if (named === undefined) return address;
    address = named;
    if (!trusts(address)) return address;
  }
  return address;
};

/** `203.0.113.7`, `203.0.113.7:4711`, `2001:db8::7`, `[2001:db8::7]:4711`. */
const hopAddress = (hop: string): string | undefined => {
  const text = hop.trim();
  const [, bracketed, dotted] = /^\[([^\]]+)\](?::\d+)?$|^(\d+\.\d+\.\d+\.\d+)(?::\d+)?$/.exec(text) ?? [];
  const address = plainAddress(bracketed ?? dotted ?? text);
  return isIP(address) === 0 ? undefined : address;
};

/**
 * Whom an address stands for in limits: an IPv6 customer has a whole /64, and could change the address with every
 * request.
 */
export const addressGroup = (address: string): string => {
  if (isIP(address) !== 6) return address;
  const [head = "", tail] = address.split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail ? tail.split(":") : [];
  const zeros = tail === undefined ? [] : Array<string>(Math.max(0, 8 - left.length - right.length)).fill("0");
  return `${[...left, ...zeros, ...right]
    .slice(0, 4)
    .map((part) => part.replace(/^0+(?=.)/, ""))
    .join(":")}::/64`;
};
