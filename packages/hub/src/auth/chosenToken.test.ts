import { expect, test } from "@jest/globals";
import { systemRandom } from "@rootstock/service";
import { ConfigError, loadHubConfig } from "../config.ts";
import { weaknessOf } from "./chosenToken.ts";

const WEAK = [
  "short-Token-123",
  "aaaaaaaaaaaaaaaa",
  "abababababababababababababababababab",
  "1212343412123434",
  "metrics-password",
  "a token for metrics collectors",
  "METRICS_PASSWORD",
  "2026-01-31 2026-12-01",
];

test.each(WEAK)("a token that may be guessed is refused: %s", (token) => {
  expect(weaknessOf(token)).toBeDefined();
});

test("what was drawn is taken, however it is written, and long sentences are", () => {
  for (let i = 0; i < 1_000; i += 1) {
    expect(weaknessOf(systemRandom.bytes(16).toString("hex"))).toBeUndefined();
    expect(weaknessOf(systemRandom.bytes(12).toString("base64"))).toBeUndefined();
    expect(weaknessOf(systemRandom.uuid())).toBeUndefined();
  }
  expect(weaknessOf("nine brown foxes jump over the lazy dogs")).toBeUndefined();
});

test("a replica does not start with one, and says what to do instead", () => {
  const problems = (more: Readonly<Record<string, string>>): readonly string[] => {
    try {
      loadHubConfig({ DATABASE_URL: "postgres://h/d", ROOTSTOCK_SECRET: "s".repeat(32), ...more });
      return [];
    } catch (err) {
      if (err instanceof ConfigError) return err.problems;
      throw err;
    }
  };
  expect(problems({ ROOTSTOCK_METRICS_TOKEN: "metrics-password" })).toEqual([
    expect.stringMatching(/^ROOTSTOCK_METRICS_TOKEN: .*openssl rand -hex 32/),
  ]);
  expect(problems({ ROOTSTOCK_METRICS_TOKEN: "9f3c62a1d07be845" })).toEqual([]);
  // Who shows this one is an administrator: on this machine only it may be a toy.
  const toy = { SCION_DEV_TOKEN: `scion_dev_${"ab".repeat(32)}` };
  const drawn = { SCION_DEV_TOKEN: `scion_dev_${systemRandom.bytes(32).toString("hex")}` };
  const remote = { HOST: "0.0.0.0", ROOTSTOCK_ALLOW_REMOTE_DEV_LOGIN: "1" };
  expect(problems(toy)).toEqual([]);
  expect(problems({ ...drawn, ...remote })).toEqual([]);
  expect(problems({ ...toy, ...remote })).toEqual([expect.stringMatching(/^SCION_DEV_TOKEN: .*openssl rand -hex 32/)]);
});
