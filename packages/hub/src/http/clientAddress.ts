import { isIP } from "node:net";

/**
 * From where a request comes: the other end of the connection, or, where that is a proxy that is believed, whom it names
 * in X-Forwarded-For. Each proxy appends whom it got the request from, so the list is read from its end, and what stands
 * before an address that is not believed is that one's own invention.
 */
export const clientAddress = (
  peer: string,
  forwardedFor: string | null,
  trusts: (address: string) => boolean,
): string => {
  let address = plain(peer);
  const named = (forwardedFor ?? "").split(",").map((entry) => plain(entry.trim()));
  while (trusts(address)) {
    const before = named.pop();
    if (before === undefined || isIP(before) === 0) break;
    address = before;
  }
  return address;
};

/** An IPv4 address that came as IPv6 is the IPv4 one; some proxies add a port. */
const plain = (address: string): string =>
  address
    .replace(/^::ffff:(?=\d+\.)/i, "")
    .replace(/^(\d+\.\d+\.\d+\.\d+):\d+$/, "$1")
    .replace(/^\[(.*)\](:\d+)?$/, "$1");
