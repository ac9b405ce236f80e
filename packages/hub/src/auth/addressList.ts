import { BlockList, isIP } from "node:net";

/** Addresses and networks, such as `10.0.0.7, 192.168.0.0/16, fd00::/8`. */
export class AddressList {
  readonly #list = new BlockList();

  /** Throws `RangeError` for what is no address. */
  constructor(entries: readonly string[]) {
    for (const entry of entries) {
      const [address = "", bits, ...rest] = entry.split("/");
      const family = isIP(address) === 6 ? "ipv6" : "ipv4";
      const most = family === "ipv6" ? 128 : 32;
      const prefix = bits === undefined ? most : Number(bits);
      if (isIP(address) === 0 || rest.length > 0 || !/^\d{1,3}$/.test(bits ?? "0") || prefix > most)
        throw new RangeError(`"${entry}" is no address or network`);
      this.#list.addSubnet(address, prefix, family);
    }
  }

  /** Whether a connection's other end is among them. IPv4 in IPv6 is the IPv4 address. */
  has(peer: string): boolean {
    const address = plainAddress(peer);
    const family = isIP(address);
    return family !== 0 && this.#list.check(address, family === 6 ? "ipv6" : "ipv4");
  }
}

/** An address as it is compared: IPv4 in IPv6 is the IPv4 address. */
export const plainAddress = (address: string): string => address.replace(/^::ffff:(?=\d+\.)/i, "").toLowerCase();
