import { mkdirSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import type { RefreshedTokens } from "@rootstock/client";
import type { Clock } from "@rootstock/service";
import { CliError } from "./exitCodes.ts";
import type { Env } from "./flags.ts";
import { readJson, writePrivate } from "./start/files.ts";
import { tryLock } from "./start/lock.ts";

/** Logins of this user, by hub: what `rootstock login` leaves for the other commands. */
export interface StoredLogin {
  readonly accessToken: string;
  readonly refreshToken: string;
  /** In milliseconds since the epoch. */
  readonly expiresAt: number;
  /** From when on it is exchanged for a new one, in milliseconds since the epoch: at half its life. */
  readonly renewAt?: number;
}

/** What the hub has given, as it is kept. `now`: in milliseconds since the epoch. */
export const loginOf = ({ accessToken, refreshToken, expiresIn }: RefreshedTokens, now: number): StoredLogin => ({
  accessToken,
  refreshToken,
  expiresAt: now + expiresIn * 1000,
  renewAt: now + expiresIn * 500,
});

/** `$XDG_CONFIG_HOME/rootstock/logins.json` or `~/.config/rootstock/logins.json`, readable by its owner alone. */
export const loginsPath = (env: Env): string =>
  join(env.XDG_CONFIG_HOME || join(env.HOME || homedir(), ".config"), "rootstock", "logins.json");

/** The login at the hub of this address, over or not. */
export const storedLogin = (env: Env, url: string): StoredLogin | undefined => read(env).get(new URL(url).origin);

/** Keeps a login, or forgets it. */
export type StoreLogin = (url: string, kept: StoredLogin | undefined) => void;

/** How long another command of this user may take with the logins, and how often we look; in milliseconds. */
const OTHERS_MS = 60_000;
const LOOK_MS = 25;

/**
 * Changes what is kept while no other command of this user does: none overwrites what another has stored meanwhile.
 * @throws CliError when another one does not come to an end
 */
export const changeLogins = async <T>(
  env: Env,
  clock: Clock,
  work: (store: StoreLogin) => Promise<T> | T,
): Promise<T> => {
  const path = loginsPath(env);
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const until = clock.elapsed() + OTHERS_MS;
  let lock = tryLock(`${path}.lock`);
  while ("holder" in lock) {
    if (clock.elapsed() > until)
      throw new CliError(`another command (pid ${lock.holder.pid}) has been busy with ${path} for too long`);
    await clock.sleep(LOOK_MS);
    lock = tryLock(`${path}.lock`);
  }
  try {
    return await work((url, kept) => {
      const logins = read(env);
      logins.delete(new URL(url).origin);
      if (kept) logins.set(new URL(url).origin, kept);
      writePrivate(path, `${JSON.stringify({ hubs: Object.fromEntries(logins) }, null, 2)}\n`);
    });
  } finally {
    lock.release();
  }
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
  typeof value.expiresAt === "number" &&
  (!("renewAt" in value) || typeof value.renewAt === "number");
