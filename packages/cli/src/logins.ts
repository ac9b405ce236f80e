import { mkdirSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import type { Env } from "./flags.ts";
import { readJson, writePrivate } from "./start/files.ts";

/** Logins of this user, by hub: what `rootstock login` leaves for the other commands. */
export interface StoredLogin {
  readonly accessToken: string;
  readonly refreshToken: string;
  /** In milliseconds since the epoch. */
  readonly expiresAt: number;
}

/** `$XDG_CONFIG_HOME/rootstock/logins.json` or `~/.config/rootstock/logins.json`, readable by its owner alone. */
export const loginsPath = (env: Env): string =>
  join(env.XDG_CONFIG_HOME || join(env.HOME || homedir(), ".config"), "rootstock", "logins.json");

/** The login at the hub of this address, over or not. */
export const storedLogin = (env: Env, url: string): StoredLogin | undefined => read(env).get(new URL(url).origin);

/** Keeps a login, or forgets it. */
export const storeLogin = (env: Env, url: string, kept: StoredLogin | undefined): void => {
  const logins = read(env);
  logins.delete(new URL(url).origin);
  if (kept) logins.set(new URL(url).origin, kept);
  const path = loginsPath(env);
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  writePrivate(path, `${JSON.stringify({ hubs: Object.fromEntries(logins) }, null, 2)}\n`);
};

const read = (env: Env): Map<string, StoredLogin> => {
  const value = readJson(loginsPath(env));
  const hubs: unknown = typeof value === "object" && value !== null && "hubs" in value ? value.hubs : undefined;
  const logins = new Map<string, StoredLogin>();
  if (typeof hubs !== "object" || hubs === null) return logins;
  for (const [origin, entry] of Object.entries(hubs)) if (isLogin(entry)) logins.set(origin, entry);
  return logins;
};

const isLogin = (value: unknown): value is StoredLogin =>
  typeof value === "object" &&
  value !== null &&
  "accessToken" in value &&
  typeof value.accessToken === "string" &&
  "refreshToken" in value &&
  typeof value.refreshToken === "string" &&
  "expiresAt" in value &&
  typeof value.expiresAt === "number";
