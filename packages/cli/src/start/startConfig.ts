import type { LogLevel } from "@rootstock/service";
import type { Env } from "../flags.ts";
import { readLogLevel } from "../logLevel.ts";
import { defaultDataDirectory } from "./dataDirectory.ts";

/** What `rootstock start` is told. */
export interface StartConfig {
  /** Port of the load balancer on loopback; 0: any free one. */
  readonly port: number;
  readonly dataRoot: string;
  readonly replicas: number;
  readonly localRuntimeBroker: boolean;
  /** Instead of the kept one. */
  readonly devToken: string | undefined;
  readonly logLevel: LogLevel;
}

const MAX_REPLICAS = 16;

/** The form that every part of the original's tool chain recognises (spec/06 1.2). */
const TOKEN = /^scion_dev_[0-9a-f]{64}$/;

/**
 * Reads the variables of `rootstock start`.
 * @throws Error whose message lists every problem, one a line
 */
export const loadStartConfig = (env: Env, isRoot: boolean): StartConfig => {
  const problems: string[] = [];
  const integer = (name: string, fallback: number, min: number, max: number): number => {
    const text = env[name];
    if (!text) return fallback;
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return value;
    problems.push(`${name}: want a whole number from ${min} to ${max}, got "${text}"`);
    return fallback;
  };
  const switchedOn = (name: string): boolean => {
    const text = env[name] || "1";
    if (text !== "0" && text !== "1") problems.push(`${name}: want 0 or 1, got "${text}"`);
    return text !== "0";
  };
  const logLevel = readLogLevel(env, problems);
  const devToken = env.SCION_DEV_TOKEN || undefined;
  if (devToken && !TOKEN.test(devToken)) {
    problems.push("SCION_DEV_TOKEN: want scion_dev_ and 64 hexadecimal digits");
  }
  const config: StartConfig = {
    port: integer("ROOTSTOCK_PORT", 8787, 0, 65_535),
    dataRoot: env.ROOTSTOCK_DATA || defaultDataDirectory(env, isRoot),
    replicas: integer("ROOTSTOCK_REPLICAS", 3, 1, MAX_REPLICAS),
    localRuntimeBroker: switchedOn("ROOTSTOCK_LOCAL_RUNTIME_BROKER"),
    devToken,
    logLevel,
  };
  if (problems.length > 0) throw new Error(problems.join("\n"));
  return config;
};
