import { expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import { deriveKey } from "./keys.ts";
import { SecretBox, SecretBoxError } from "./secretBox.ts";

const secret = "0123456789abcdef0123456789abcdef";
const box = new SecretBox([secret], systemRandom);
const plain = Buffer.from("GEMINI_API_KEY=xyz");

test("opens what it sealed, on any replica with the same shared secret", () => {
  const sealed = box.seal("agent-kept-value", "row-1", plain);
  expect(new SecretBox([secret], systemRandom).open("agent-kept-value", "row-1", sealed)).toEqual(plain);
  expect(sealed.includes(plain)).toBe(false);
});

test("seals the same value differently each time, and the empty value too", () => {
  expect(box.seal("agent-kept-value", "r", plain)).not.toEqual(box.seal("agent-kept-value", "r", plain));
  expect(box.open("agent-kept-value", "r", box.seal("agent-kept-value", "r", Buffer.alloc(0)))).toEqual(
    Buffer.alloc(0),
  );
});

test("refuses a value changed in any byte, or cut anywhere", () => {
  const sealed = box.seal("runtime-broker-secret", "row-1", plain);
  for (let i = 0; i < sealed.length; i += 1) {
    const changed = Buffer.from(sealed);
    changed.writeUInt8(changed.readUInt8(i) ^ 0x40, i);
    expect(() => box.open("runtime-broker-secret", "row-1", changed)).toThrow(SecretBoxError);
    expect(() => box.open("runtime-broker-secret", "row-1", sealed.subarray(0, i))).toThrow(SecretBoxError);
  }
});

test("refuses a value moved to another row, another purpose, or another shared secret", () => {
  const sealed = box.seal("runtime-broker-secret", "row-1", plain);
  expect(() => box.open("runtime-broker-secret", "row-2", sealed)).toThrow(SecretBoxError);
  expect(() => box.open("agent-kept-value", "row-1", sealed)).toThrow(SecretBoxError);
  const other = new SecretBox([`${secret}!`], systemRandom);
  expect(() => other.open("runtime-broker-secret", "row-1", sealed)).toThrow(SecretBoxError);
});

test("gives every purpose a key of its own", () => {
  expect(deriveKey(secret, "agent-kept-value")).not.toEqual(deriveKey(secret, "replica-to-replica"));
});
