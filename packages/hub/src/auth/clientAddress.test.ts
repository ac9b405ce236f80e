import { expect, test } from "@jest/globals";
import { clientAddress } from "./clientAddress.ts";

const trusts = (address: string) => ["10.0.0.1", "10.0.0.2"].includes(address);

test("without a proxy that is believed the connection tells, whatever the header says", () => {
  expect(clientAddress("203.0.113.7", "198.51.100.1", trusts)).toBe("203.0.113.7");
  expect(clientAddress("::ffff:203.0.113.7", null, trusts)).toBe("203.0.113.7");
});

test("a proxy that is believed names who came to it, and so on until one is not", () => {
  expect(clientAddress("10.0.0.1", "198.51.100.1", trusts)).toBe("198.51.100.1");
  expect(clientAddress("::ffff:10.0.0.1", "6.6.6.6, 198.51.100.1, 10.0.0.2", trusts)).toBe("198.51.100.1");
  expect(clientAddress("10.0.0.1", "[2001:db8::1]:4711", trusts)).toBe("2001:db8::1");
  expect(clientAddress("10.0.0.1", "198.51.100.1:4711", trusts)).toBe("198.51.100.1");
});

test("what is no address is nobody's", () => {
  for (const header of [null, "", "unknown", "6.6.6.6, <script>"])
    expect(clientAddress("10.0.0.1", header, trusts)).toBe("10.0.0.1");
});
