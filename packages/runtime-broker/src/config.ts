import { readFileSync } from "node:fs";
import { homedir, hostname } from "node:os";
import { join, resolve } from "node:path";
import { parseUuid } from "@rootstock/protocol";
import { z } from "zod";
import { type Harness, harnessesSchema, SHELL_HARNESS, shellHarness } from "./harness/harness.ts";

/** Every problem of a configuration at once, so that it is mended in one go. */
export class RuntimeBrokerConfigError extends Error {
  override readonly name = "RuntimeBrokerConfigError";
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(`invalid runtime broker configuration:\n${problems.map((p) => `  - ${p}`).join("\n")}`);
    this.problems = problems;
  }
}

/** Where each option comes from in the environment; the first name that is set wins. */
export const RUNTIME_BROKER_ENV = {
  hubUrl: ["ROOTSTOCK_HUB_URL", "SCION_HUB_ENDPOINT"],
  joinToken: ["ROOTSTOCK_JOIN_TOKEN", "SCION_BROKER_JOIN_TOKEN"],
  brokerId: ["ROOTSTOCK_RUNTIME_BROKER_ID", "SCION_BROKER_ID"],
  name: ["ROOTSTOCK_RUNTIME_BROKER_NAME"],
  stateDirectory: ["ROOTSTOCK_RUNTIME_BROKER_STATE"],
  runtime: ["ROOTSTOCK_RUNTIME"],
  containerCommand: ["ROOTSTOCK_CONTAINER_COMMAND"],
  containerImage: ["ROOTSTOCK_CONTAINER_IMAGE"],
  containerNetwork: ["ROOTSTOCK_CONTAINER_NETWORK"],
  containerHubUrl: ["ROOTSTOCK_CONTAINER_HUB_URL"],
  harnesses: ["ROOTSTOCK_HARNESSES"],
  harnessesFile: ["ROOTSTOCK_HARNESSES_FILE"],
  defaultHarness: ["ROOTSTOCK_DEFAULT_HARNESS"],
  concurrency: ["ROOTSTOCK_RUNTIME_BROKER_CONCURRENCY"],
  heartbeatSeconds: ["ROOTSTOCK_RUNTIME_BROKER_HEARTBEAT_SECONDS"],
  stopGraceSeconds: ["ROOTSTOCK_STOP_GRACE_SECONDS"],
  logLevel: ["ROOTSTOCK_LOG_LEVEL"],
} as const;
export type RuntimeBrokerOption = keyof typeof RUNTIME_BROKER_ENV;

const httpUrl = z.url({ protocol: /^https?$/, error: "must be an http or https URL" });

const optionsSchema = z.object({
  hubUrl: httpUrl.optional(),
  joinToken: z.string().startsWith("scion_join_", 'must begin with "scion_join_"').optional(),
  brokerId: z
    .string()
    .transform((text, context) => {
      const id = parseUuid(text);
      if (id === undefined) context.addIssue({ code: "custom", message: "must be a UUID" });
      return id ?? z.NEVER;
    })
    .optional(),
  name: z.string().min(1).max(255).optional(),
  stateDirectory: z.string().min(1).optional(),
  runtime: z.enum(["process", "container"]).default("process"),
  containerCommand: z.enum(["docker", "podman"]).default("docker"),
  containerImage: z.string().min(1).optional(),
  containerNetwork: z.string().min(1).optional(),
  containerHubUrl: httpUrl.optional(),
  harnesses: z.string().optional(),
  harnessesFile: z.string().min(1).optional(),
  defaultHarness: z.string().min(1).default(SHELL_HARNESS),
  concurrency: z.coerce.number().int().min(1).max(256).default(20),
  heartbeatSeconds: z.coerce.number().min(1).max(60).default(30),
  stopGraceSeconds: z.coerce.number().min(0).max(600).default(10),
  logLevel: z.enum(["trace", "debug", "info", "warn", "error", "silent"]).default("info"),
});
type Options = z.infer<typeof optionsSchema>;

/** A validated configuration. */
export interface RuntimeBrokerConfig {
  /** Base URL of the hub. Undefined: the one that the stored credentials name. */
  readonly hubUrl: string | undefined;
  readonly joinToken: string | undefined;
  readonly brokerId: string | undefined;
  /** Shown to people; the hub keeps the name given at registration. */
  readonly name: string;
  /** Absolute path: credentials, agents' files and sockets. One running runtime broker each. */
  readonly stateDirectory: string;
  readonly runtime: "process" | "container";
  readonly containerCommand: "docker" | "podman";
  readonly containerImage: string | undefined;
  readonly containerNetwork: string | undefined;
  readonly containerHubUrl: string | undefined;
  readonly harnesses: Readonly<Record<string, Harness>>;
  readonly defaultHarness: string;
  /** Requests of the hub that run at once. */
  readonly concurrency: number;
  readonly heartbeatMs: number;
  /** How long an agent may take to end by itself before it is killed. */
  readonly stopGraceMs: number;
  readonly logLevel: Options["logLevel"];
  /** The environment of this process: agents get from it what every program needs, and what a harness passes on. */
  readonly hostEnv: Readonly<Record<string, string>>;
}

const readHarnesses = (options: Options, problems: string[]): Record<string, Harness> => {
  const harnesses: Record<string, Harness> = { [SHELL_HARNESS]: shellHarness };
  const add = (source: string, text: () => string) => {
    try {
      const parsed = harnessesSchema.safeParse(JSON.parse(text()));
      if (parsed.success) Object.assign(harnesses, parsed.data);
      else
        for (const issue of parsed.error.issues) problems.push(`${source}: ${issue.path.join(".")}: ${issue.message}`);
    } catch (err) {
      problems.push(`${source}: ${err instanceof Error ? err.message : String(err)}`);
    }
  };
  const { harnessesFile, harnesses: inline } = options;
  if (harnessesFile !== undefined) add("harnessesFile", () => readFileSync(harnessesFile, "utf8"));
  if (inline !== undefined) add("harnesses", () => inline);
  return harnesses;
};

/**
 * The configuration from the environment; `overrides` (command line flags, as text) win. An empty value counts as not
 * set.
 * @throws RuntimeBrokerConfigError naming every problem
 */
export const loadRuntimeBrokerConfig = (
  env: Readonly<Record<string, string | undefined>> = process.env,
  overrides: Partial<Record<RuntimeBrokerOption, string | undefined>> = {},
): RuntimeBrokerConfig => {
  const given: Record<string, string> = {};
  for (const [option, names] of Object.entries(RUNTIME_BROKER_ENV)) {
    const value = overrides[option as RuntimeBrokerOption] || names.map((name) => env[name]).find((text) => text);
    if (value) given[option] = value;
  }
  const parsed = optionsSchema.safeParse(given);
  if (!parsed.success) {
    const label = (path: readonly PropertyKey[]) => {
      const option = String(path[0]);
      return `${option} (${RUNTIME_BROKER_ENV[option as RuntimeBrokerOption].join(" or ")})`;
    };
    throw new RuntimeBrokerConfigError(parsed.error.issues.map((i) => `${label(i.path)}: ${i.message}`));
  }
  const options = parsed.data;
  const problems: string[] = [];
  const harnesses = readHarnesses(options, problems);
  if (!Object.hasOwn(harnesses, options.defaultHarness)) {
    problems.push(`defaultHarness: no harness named "${options.defaultHarness}" is configured`);
  }
  if (options.joinToken && !options.brokerId) problems.push("brokerId: required together with a join token");
  if (options.joinToken && !options.hubUrl) problems.push("hubUrl: required together with a join token");
  if (problems.length > 0) throw new RuntimeBrokerConfigError(problems);
  return Object.freeze({
    hubUrl: options.hubUrl?.replace(/\/+$/, ""),
    joinToken: options.joinToken,
    brokerId: options.brokerId,
    name: options.name ?? hostname(),
    stateDirectory: resolve(options.stateDirectory ?? join(homedir(), ".rootstock", "runtime-broker")),
    runtime: options.runtime,
    containerCommand: options.containerCommand,
    containerImage: options.containerImage,
    containerNetwork: options.containerNetwork,
    containerHubUrl: options.containerHubUrl?.replace(/\/+$/, ""),
    harnesses: Object.freeze(harnesses),
    defaultHarness: options.defaultHarness,
    concurrency: options.concurrency,
    heartbeatMs: options.heartbeatSeconds * 1000,
    stopGraceMs: options.stopGraceSeconds * 1000,
    logLevel: options.logLevel,
    hostEnv: Object.fromEntries(Object.entries(env).flatMap(([k, v]) => (v === undefined ? [] : [[k, v]]))),
  });
};
