import type { LogLevel } from "@rootstock/service";
import type { Env } from "./flags.ts";

const LOG_LEVELS: readonly LogLevel[] = ["trace", "debug", "info", "warn", "error", "silent"];

/** `ROOTSTOCK_LOG_LEVEL`, `info` when it is not set; a wrong one is added to `problems`. */
export const readLogLevel = (env: Env, problems: string[]): LogLevel => {
  const text = env.ROOTSTOCK_LOG_LEVEL || "info";
  const level = LOG_LEVELS.find((l) => l === text);
  if (!level) problems.push(`ROOTSTOCK_LOG_LEVEL: want one of ${LOG_LEVELS.join(", ")}, got "${text}"`);
  return level ?? "info";
};
