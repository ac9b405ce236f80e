import { chmodSync, mkdirSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import type { Random } from "@rootstock/service";
import type { Env } from "../flags.ts";
import { readIfPresent, writePrivate } from "./files.ts";

/** Where everything that `rootstock start` keeps lies, between runs and outside the checkout. */
export interface DataDirectory {
  readonly root: string;
  readonly lock: string;
  readonly ledger: string;
  /** Address and token of the running cluster, for `rootstock agent`. */
  readonly connection: string;
  readonly secret: string;
  readonly devToken: string;
  readonly databasePassword: string;
  readonly runtimeBrokerId: string;
  readonly postgres: string;
  readonly runtimeBroker: string;
  readonly logs: string;
  /** What Node has compiled of our commands: a start takes half the time. */
  readonly compiled: string;
}

/**
 * The default place: `/var/lib/rootstock` for root, whose home PostgreSQL's own user cannot enter, else
 * `$XDG_DATA_HOME/rootstock` or `~/.local/share/rootstock`.
 */
export const defaultDataDirectory = (env: Env, isRoot: boolean): string => {
  if (isRoot) return "/var/lib/rootstock";
  return join(env.XDG_DATA_HOME || join(env.HOME || homedir(), ".local", "share"), "rootstock");
};

export const dataDirectory = (root: string): DataDirectory => {
  const at = (name: string) => join(resolve(root), name);
  return {
    root: resolve(root),
    lock: at("start.lock"),
    ledger: at("processes.json"),
    connection: at("connection.json"),
    secret: at("secret"),
    devToken: at("dev-token"),
    databasePassword: at("database-password"),
    runtimeBrokerId: at("runtime-broker-id"),
    postgres: at("postgres"),
    runtimeBroker: at("runtime-broker"),
    logs: at("logs"),
    compiled: at("compiled"),
  };
};

/** Creates what is missing. The folder itself may be passed by others when root owns it: PostgreSQL's user must get in. */
export const prepareDataDirectory = (data: DataDirectory, isRoot: boolean): void => {
  mkdirSync(data.root, { recursive: true });
  chmodSync(data.root, isRoot ? 0o711 : 0o700);
  for (const folder of [data.logs, data.runtimeBroker, data.compiled])
    mkdirSync(folder, { recursive: true, mode: 0o700 });
};

/** The value kept in `path`; made once, readable by its owner alone. */
export const keptValue = (path: string, make: () => string): string => {
  const kept = readIfPresent(path)?.trim();
  if (kept) return kept;
  const value = make();
  writePrivate(path, `${value}\n`);
  return value;
};

/** What a cluster needs to keep to itself, the same in every run. */
export interface KeptSecrets {
  /** `ROOTSTOCK_SECRET`: losing it makes every stored secret unreadable. */
  readonly secret: string;
  readonly devToken: string;
  readonly databasePassword: string;
  /** Not a secret, but as stable: this machine's runtime broker. */
  readonly runtimeBrokerId: string;
}

export const keptSecrets = (data: DataDirectory, random: Random): KeptSecrets => {
  const hex = () => random.bytes(32).toString("hex");
  return {
    secret: keptValue(data.secret, hex),
    devToken: keptValue(data.devToken, () => `scion_dev_${hex()}`),
    databasePassword: keptValue(data.databasePassword, hex),
    runtimeBrokerId: keptValue(data.runtimeBrokerId, () => random.uuid()),
  };
};
