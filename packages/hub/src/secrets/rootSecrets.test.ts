import { expect, test } from "@jest/globals";
import { originalKeys } from "./keys.ts";
import { parseRootSecrets, RootSecretsError } from "./rootSecrets.ts";

const [a, b] = ["a".repeat(32), "b".repeat(40)];

test.each([
  ["one alone counts to the byte", ` ${a}\n`, [` ${a}\n`]],
  ["one of words", "a shared secret of at least 32 bytes", ["a shared secret of at least 32 bytes"]],
  ["several, in their order", `${b},${a}`, [b, a]],
  ["JSON, for what holds a comma or white space", JSON.stringify([`${a},`, ` ${b}`]), [`${a},`, ` ${b}`]],
])("%s", (_, text, secrets) => {
  expect(parseRootSecrets(text)).toEqual(secrets);
});

test.each([
  ["short", "tooshort-tooshort", "must be at least 32 bytes"],
  ["short beside another", `${a},tooshort-tooshort`, "secret 2 of 2 must be at least 32 bytes"],
  ["empty beside another", `${a},`, "secret 2 of 2 must be at least 32 bytes"],
  ["white space that may or may not be meant", `${a}, ${b}`, "secret 2 of 2 has white space"],
  ["twice the same", `${a},${b},${a}`, "secret 3 of 3 is the same as an earlier one"],
  ["no JSON", `[${a}`, "no JSON list of texts"],
  ["JSON of something else", `[1,"${a}"]`, "no JSON list of texts"],
  ["an empty list", "[]", "empty"],
])("%s is refused, and not quoted", (_, text, reason) => {
  const refusal = (() => {
    try {
      return parseRootSecrets(text);
    } catch (err) {
      return err;
    }
  })();
  expect(refusal).toBeInstanceOf(RootSecretsError);
  expect(String(refusal)).toContain(reason);
  for (const secret of [a, b, "tooshort"]) expect(String(refusal)).not.toContain(secret);
  expect(refusal).not.toHaveProperty("cause");
});

test.each([
  ["user_signing_key", "86c2a064f203daa2"],
  ["agent_signing_key", "d31bca3ae3469961"],
] as const)("derives the %s as an original hub does with the same secret", (name, firstBytes) => {
  const [{ key }] = originalKeys(["secret"], name);
  expect(key.export().subarray(0, 8).toString("hex")).toBe(firstBytes);
});
