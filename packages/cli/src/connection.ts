import { HubClient, type RetryOptions, type TokenSource } from "@rootstock/client";
import { Backoff, type Base } from "@rootstock/service";
import { CliError, UsageError } from "./exitCodes.ts";
import type { Env } from "./flags.ts";
import { type StoredLogin, storedLogin } from "./logins.ts";
import { LoginSession } from "./session.ts";
import { dataDirectory, defaultDataDirectory } from "./start/dataDirectory.ts";
import { readJson, writePrivate } from "./start/files.ts";

/** Where a hub is and how to log in. */
export interface Connection {
  readonly url: string;
  readonly token: string;
}

/** A hub at which this user has logged in. */
export interface LoggedIn {
  readonly url: string;
  readonly login: StoredLogin;
}

/** What a running `rootstock start` leaves for the other commands of the same user. */
export const writeConnection = (path: string, connection: Connection): void =>
  writePrivate(path, `${JSON.stringify(connection, null, 2)}\n`);

const readConnection = (path: string): Connection | undefined => {
  const value = readJson(path);
  if (typeof value !== "object" || value === null || !("url" in value) || !("token" in value)) return undefined;
  const { url, token } = value;
  return typeof url === "string" && typeof token === "string" ? { url, token } : undefined;
};

const isHttpUrl = (text: string): boolean => URL.canParse(text) && /^https?:$/.test(new URL(text).protocol);

interface Named {
  readonly url: string | undefined;
  readonly local: Connection | undefined;
  /** Where the local one would be told. */
  readonly path: string;
}

const named = (env: Env, isRoot: boolean): Named => {
  const url = env.ROOTSTOCK_HUB_URL || env.SCION_HUB_ENDPOINT || undefined;
  if (url && !isHttpUrl(url)) throw new UsageError([`ROOTSTOCK_HUB_URL: want an http or https URL, got "${url}"`]);
  const path = dataDirectory(env.ROOTSTOCK_DATA || defaultDataDirectory(env, isRoot)).connection;
  return { url, local: readConnection(path), path };
};

const nowhere = (path: string): CliError =>
  new CliError(
    `no cluster runs here (there is no ${path}).\nStart one with "npm start", or name a hub with --hub or ROOTSTOCK_HUB_URL, and log in with "rootstock login" or SCION_DEV_TOKEN.`,
  );

/** Where the hub is that is named, or else runs on this machine. Throws as {@link findConnection}. */
export const hubUrl = (env: Env, isRoot: boolean): string => {
  const { url, local, path } = named(env, isRoot);
  const found = url ?? local?.url;
  if (!found) throw nowhere(path);
  return found;
};

/**
 * The hub to talk to: the one named by a flag or variable, else the running `rootstock start` of this machine; and the
 * token for it: the one that is given, else what `rootstock login` has left, else that of the running cluster.
 * @throws UsageError for an address that is none; CliError when nothing says where the hub is
 */
export const findConnection = (env: Env, isRoot: boolean): Connection | LoggedIn => {
  const token = env.SCION_DEV_TOKEN;
  const { url, local, path } = named(env, isRoot);
  if (!url) {
    if (local) return { url: local.url, token: token || local.token };
    throw nowhere(path);
  }
  if (token) return { url, token };
  const login = storedLogin(env, url);
  if (login) return { url, login };
  if (local && new URL(local.url).origin === new URL(url).origin) return { url, token: local.token };
  throw new CliError(`no token for ${url}: log in with "rootstock login", or set SCION_DEV_TOKEN`);
};

/** How often a call that got no answer is sent, over about three seconds: as long as a load balancer may take to notice. */
const ATTEMPTS = 6;

const retryOf = (base: Base): RetryOptions => {
  const backoff = new Backoff({ firstMs: 100, maxMs: 2_000 }, base.random);
  return { attempts: ATTEMPTS, wait: () => base.clock.sleep(backoff.next()) };
};

/** A client of this hub, which survives the death of the replica it talks to. */
export const clientOf = (
  connection: { readonly url: string; readonly token: string | TokenSource },
  base: Base,
): HubClient =>
  new HubClient({
    baseUrl: connection.url,
    token: connection.token,
    newKey: () => base.random.uuid(),
    retry: retryOf(base),
  });

/**
 * A client of the hub that {@link findConnection} finds, which renews a login that ends.
 * @throws as that does
 */
export const connect = (env: Env, base: Base): HubClient => {
  const found = findConnection(env, process.getuid?.() === 0);
  const { url } = found;
  const token =
    "login" in found ? new LoginSession(found.login, { env, url, base, retry: retryOf(base) }) : found.token;
  return clientOf({ url, token }, base);
};
