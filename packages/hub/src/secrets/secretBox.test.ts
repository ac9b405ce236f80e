import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { type Clock, systemClock, systemRandom } from "@rootstock/service";
import { SecretBoxError } from "./errors.ts";
import { checkKeyFile, FileKeys, KeyFileError } from "./fileKeys.ts";
import { keyManagement, parseKeyKeepers } from "./keyKeepers.ts";
import type { KeyManagement } from "./keyManagement.ts";
import { deriveKey } from "./keys.ts";
import type { RootSecrets } from "./rootSecrets.ts";
import { SecretBox, type SecretBoxOptions } from "./secretBox.ts";
import { SecretKeys } from "./secretKeys.ts";

const former = "0123456789abcdef0123456789abcdef";
const present = "fedcba9876543210fedcba9876543210";
const plain = Buffer.from("GEMINI_API_KEY=xyz");
const KEPT = "agent-kept-value";
const base = { clock: systemClock, random: systemRandom };
const boxOf = (secrets: RootSecrets, more: Partial<SecretBoxOptions> = {}) =>
  new SecretBox({ secrets, ...base, ...more });
const box = boxOf([former]);

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "rootstock-keys-"));
});
afterAll(() => rmSync(dir, { recursive: true }));
const keyFile = (name: string, content: unknown): string => {
  const path = join(dir, name);
  writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
  return path;
};
const fileKey = (id: string) => ({ id, key: randomBytes(32).toString("base64") });

test("opens what it sealed, on any replica with the same shared secret", async () => {
  const sealed = await box.seal(KEPT, "row-1", plain);
  expect(await boxOf([former]).open(KEPT, "row-1", sealed)).toEqual(plain);
  expect(sealed.includes(plain)).toBe(false);
});

test("seals the same value differently each time, and the empty value too", async () => {
  expect(await box.seal(KEPT, "r", plain)).not.toEqual(await box.seal(KEPT, "r", plain));
  expect(await box.open(KEPT, "r", await box.seal(KEPT, "r", Buffer.alloc(0)))).toEqual(Buffer.alloc(0));
});

test.each([
  ["an envelope", box],
  ["a value of the former format", boxOf([former], { olderReplicas: () => true })],
])("refuses %s changed in any byte, or cut anywhere", async (_, sealing) => {
  const sealed = await sealing.seal(KEPT, "row-1", plain);
  for (let i = 0; i < sealed.length; i += 1) {
    const changed = Buffer.from(sealed);
    changed.writeUInt8(changed.readUInt8(i) ^ 0x40, i);
    await expect(box.open(KEPT, "row-1", changed)).rejects.toThrow(SecretBoxError);
    await expect(box.open(KEPT, "row-1", sealed.subarray(0, i))).rejects.toThrow(SecretBoxError);
  }
});

test("refuses a value moved to another row, another purpose, or another shared secret", async () => {
  const sealed = await box.seal("runtime-broker-secret", "row-1", plain);
  await expect(box.open("runtime-broker-secret", "row-2", sealed)).rejects.toThrow(SecretBoxError);
  await expect(box.open(KEPT, "row-1", sealed)).rejects.toThrow(SecretBoxError);
  await expect(boxOf([present]).open("runtime-broker-secret", "row-1", sealed)).rejects.toThrow("not configured");
});

test("a data key of one purpose is none for another, even in an envelope put together by hand", async () => {
  const keys = new SecretKeys([former], systemRandom);
  const wrapped = await keys.wrap(randomBytes(32), KEPT);
  await expect(keys.unwrap(wrapped, "idempotency-answer")).rejects.toThrow(SecretBoxError);
});

test("a new secret in front: what the former one sealed opens, and what is sealed now opens without it", async () => {
  const before = await box.seal(KEPT, "r", plain);
  const both = boxOf([present, former]);
  expect(await both.open(KEPT, "r", before)).toEqual(plain);
  const after = await both.seal(KEPT, "r", plain);
  expect(after.subarray(0, both.presentHead().length)).toEqual(both.presentHead());
  expect(before.subarray(0, both.presentHead().length)).not.toEqual(both.presentHead());
  expect(await boxOf([present]).open(KEPT, "r", after)).toEqual(plain);
});

test("while replicas of the former release run, values are sealed as they read them; both formats are read ever after", async () => {
  let older = true;
  const during = boxOf([present, former], { olderReplicas: () => older });
  const forThem = await during.seal(KEPT, "r", plain);
  expect(forThem[0]).toBe(1);
  older = false;
  expect((await during.seal(KEPT, "r", plain))[0]).toBe(2);
  expect(await boxOf([former, present]).open(KEPT, "r", forThem)).toEqual(plain);
});

test("a value that release 0.1.0 has sealed opens, behind a newer secret, too", async () => {
  const sealed = Buffer.from(
    "01e0b3f95e431f7197fb241323d515a3828572425f53d20e67f8606694e5ae00e4bf330dba885279f5a01db84cb46e",
    "hex",
  );
  expect(await boxOf([present, former]).open(KEPT, "row-1", sealed)).toEqual(plain);
});

test("keys of a file wrap where they are configured; what the shared secret wrapped before stays readable, and back", async () => {
  const [one, two] = [fileKey("one"), fileKey("two")];
  const managed = (text: string) =>
    keyManagement({ secrets: [former], keyKeepers: parseKeyKeepers(text) }, systemRandom);
  const path = keyFile("keys.json", { keys: [one] });
  const before = await box.seal(KEPT, "r", plain);
  const withFile = boxOf([former], { keys: managed(`file:${path}`) });
  expect(await withFile.open(KEPT, "r", before)).toEqual(plain);
  const sealed = await withFile.seal(KEPT, "r", plain);
  expect(sealed.includes("file:one")).toBe(true);
  await expect(box.open(KEPT, "r", sealed)).rejects.toThrow(SecretBoxError);

  const rotated = keyFile("rotated.json", { keys: [two, one] });
  const withBoth = boxOf([former], { keys: managed(`file:${rotated}`) });
  expect(await withBoth.open(KEPT, "r", sealed)).toEqual(plain);
  const without = boxOf([former], { keys: managed(`file:${keyFile("two.json", { keys: [two] })}`) });
  await expect(without.open(KEPT, "r", sealed)).rejects.toThrow(SecretBoxError);
  expect(await without.open(KEPT, "r", await withBoth.seal(KEPT, "r", plain))).toEqual(plain);

  const back = boxOf([former], { keys: managed(`secret,file:${path}`) });
  expect(await back.open(KEPT, "r", sealed)).toEqual(plain);
  expect(await box.open(KEPT, "r", await back.seal(KEPT, "r", plain))).toEqual(plain);
});

test.each([
  ["no file", undefined, "cannot be read"],
  ["no JSON", "{keys", "no JSON"],
  ["no keys", { keys: [] }, "at least one"],
  ["a short key", { keys: [{ id: "a", key: "c2hvcnQtc2VjcmV0" }] }, "32 bytes"],
  ["an id twice", { keys: [fileKey("a"), fileKey("a")] }, "same id"],
  ["an id with a space", { keys: [fileKey("a b")] }, "an id is"],
])("a key file with %s is refused, and not quoted", (name, content, reason) => {
  const path = content === undefined ? join(dir, "missing.json") : keyFile(`${name}.json`, content);
  expect(() => checkKeyFile(path)).toThrow(KeyFileError);
  expect(() => checkKeyFile(path)).toThrow(reason);
  expect(() => checkKeyFile(path)).not.toThrow("c2hvcnQ");
});

test.each(["", "kms", "file:", "secret,,secret"])("%j names no keeper of keys", (text) => {
  expect(() => parseKeyKeepers(text)).toThrow("want a list of");
});

/** A keeper that counts what it is asked. */
const counting = () => {
  const inner = new SecretKeys([former], systemRandom);
  const asked = { wrap: 0, unwrap: 0, fails: false };
  const keys: KeyManagement = {
    wrapsWith: inner.wrapsWith,
    keeps: (id) => inner.keeps(id),
    wrap: async (dataKey, purpose) => {
      asked.wrap += 1;
      if (asked.fails) throw new Error("the key service does not answer");
      return inner.wrap(dataKey, purpose);
    },
    unwrap: async (wrapped, purpose) => {
      asked.unwrap += 1;
      if (asked.fails) throw new Error("the key service does not answer");
      return inner.unwrap(wrapped, purpose);
    },
  };
  return { asked, keys };
};

test("whoever keeps the keys is asked once for many values, and once an hour for a new data key", async () => {
  const { asked, keys } = counting();
  let now = 0;
  const clock: Clock = { ...systemClock, elapsed: () => now };
  const counted = boxOf([former], { keys, clock });
  const sealed = await Promise.all(Array.from({ length: 50 }, (_, i) => counted.seal(KEPT, `r${i}`, plain)));
  expect(asked.wrap).toBe(1);
  const reader = boxOf([former], { keys });
  await Promise.all(sealed.map((value, i) => reader.open(KEPT, `r${i}`, value)));
  expect(asked.unwrap).toBe(1);
  now += 3_600_000;
  await counted.seal(KEPT, "r", plain);
  await counted.seal("idempotency-answer", "r", plain);
  expect(asked.wrap).toBe(3);
});

test("a keeper that does not answer is no broken value, and is asked again", async () => {
  const { asked, keys } = counting();
  const sealed = await box.seal(KEPT, "r", plain);
  const counted = boxOf([former], { keys });
  asked.fails = true;
  await expect(counted.open(KEPT, "r", sealed)).rejects.not.toThrow(SecretBoxError);
  await expect(counted.seal(KEPT, "r", plain)).rejects.toThrow("does not answer");
  asked.fails = false;
  expect(await counted.open(KEPT, "r", sealed)).toEqual(plain);
  expect(await counted.open(KEPT, "r", await counted.seal(KEPT, "r", plain))).toEqual(plain);
});

test("gives every purpose a key of its own", () => {
  expect(deriveKey(former, KEPT)).not.toEqual(deriveKey(former, "replica-to-replica"));
  expect(new FileKeys(keyFile("own.json", { keys: [fileKey("x")] }), systemRandom).wrapsWith).toBe("file:x");
});
