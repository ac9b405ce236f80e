import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { loadRuntimeBrokerConfig, RuntimeBrokerConfigError } from "./config.ts";

const problemsOf = (...args: Parameters<typeof loadRuntimeBrokerConfig>): readonly string[] => {
  try {
    loadRuntimeBrokerConfig(...args);
    return [];
  } catch (err) {
    if (err instanceof RuntimeBrokerConfigError) return err.problems;
    throw err;
  }
};

test("nothing is required once credentials are stored; the shell harness is always there", () => {
  const config = loadRuntimeBrokerConfig({});
  expect(config).toMatchObject({ runtime: "process", concurrency: 20, heartbeatMs: 30_000, defaultHarness: "shell" });
  expect(Object.keys(config.harnesses)).toEqual(["shell"]);
});

test("flags win over the environment, the first name over the others, and empty means not set", () => {
  const env = {
    ROOTSTOCK_HUB_URL: "http://one:1/",
    SCION_HUB_ENDPOINT: "http://two:2",
    ROOTSTOCK_JOIN_TOKEN: "",
    SCION_BROKER_JOIN_TOKEN: "scion_join_abc",
    SCION_BROKER_ID: "{11111111-2222-4333-8444-55555555555A}",
    ROOTSTOCK_RUNTIME_BROKER_NAME: "from-env",
  };
  expect(loadRuntimeBrokerConfig(env, { name: "from-flag" })).toMatchObject({
    hubUrl: "http://one:1",
    joinToken: "scion_join_abc",
    brokerId: "11111111-2222-4333-8444-55555555555a",
    name: "from-flag",
  });
});

test("every problem is reported at once, by option and variable", () => {
  const problems = problemsOf({
    ROOTSTOCK_HUB_URL: "ftp://x",
    ROOTSTOCK_JOIN_TOKEN: "abc",
    ROOTSTOCK_RUNTIME_BROKER_ID: "7",
    ROOTSTOCK_RUNTIME: "vm",
    ROOTSTOCK_RUNTIME_BROKER_CONCURRENCY: "0",
  });
  expect(problems.map((p) => p.split(" ")[0])).toEqual(["hubUrl", "joinToken", "brokerId", "runtime", "concurrency"]);
  expect(problems[0]).toContain("ROOTSTOCK_HUB_URL or SCION_HUB_ENDPOINT");
});

test("a join token alone is not enough, and an unknown default harness is named", () => {
  expect(problemsOf({ ROOTSTOCK_JOIN_TOKEN: "scion_join_x" }, { defaultHarness: "nothing" })).toEqual([
    'defaultHarness: no harness named "nothing" is configured',
    "brokerId: required together with a join token",
    "hubUrl: required together with a join token",
  ]);
});

test("harnesses come from a file and from the environment, with their mistakes named", async () => {
  const directory = await mkdtemp(join(tmpdir(), "rb-config-"));
  const file = join(directory, "harnesses.json");
  await writeFile(file, JSON.stringify({ gemini: { command: "gemini", requiredEnv: ["GEMINI_API_KEY"] } }));
  const config = loadRuntimeBrokerConfig({
    ROOTSTOCK_HARNESSES_FILE: file,
    ROOTSTOCK_HARNESSES: '{"claude":{"command":"claude","resumable":true,"interruptKey":"Escape"}}',
  });
  expect(config.harnesses.gemini).toMatchObject({ requiredEnv: ["GEMINI_API_KEY"], taskArgs: ["{task}"] });
  expect(config.harnesses.claude).toMatchObject({ resumable: true, interruptKey: "Escape" });
  await writeFile(file, '{"gemini":{"args":"x"}}');
  const problems = problemsOf({ ROOTSTOCK_HARNESSES_FILE: file, ROOTSTOCK_HARNESSES: "{" });
  expect(problems.some((p) => p.startsWith("harnessesFile: gemini.command"))).toBe(true);
  expect(problems.some((p) => p.startsWith("harnessesFile: gemini.args"))).toBe(true);
  expect(problems.some((p) => p.startsWith("harnesses: "))).toBe(true);
  await rm(directory, { recursive: true });
});
