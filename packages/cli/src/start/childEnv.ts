import type { Env } from "../flags.ts";

/** Names that steer our own commands, or a database client: none of them may reach a child by accident. */
const STEERING = /^(ROOTSTOCK_|SCION_|DATABASE_|PG[A-Z]+$|HOST$|PORT$|NODE_CHANNEL_)/;

/**
 * The environment of a child: what every program needs (PATH, HOME, locale, proxies, keys of harnesses), without what
 * steers the commands, and with `settings`. Undefined settings are left out.
 */
export const childEnv = (env: Env, settings: Env): Record<string, string> => {
  const kept = Object.entries(env).filter(([name]) => !STEERING.test(name));
  const all = [...kept, ...Object.entries(settings)];
  return Object.fromEntries(all.flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])));
};
