/** A budget: so much at once, and so much again in every second. */
export interface RateRule {
  readonly burst: number;
  readonly perSecond: number;
}

const perMinute = (amount: number, burst: number): RateRule => ({ burst, perSecond: amount / 60 });

/**
 * The budgets with what they are when nothing is configured: high enough for a fleet of thousands behind one address, far
 * below what hurts. All are counted by all replicas together: `principal` and `address` after each call, the others before.
 */
const DEFAULTS = {
  /** Beginning to sign in, and showing codes that were given for it. By address. */
  login: perMinute(600, 600),
  refresh: perMinute(1_200, 1_200),
  validate: perMinute(1_200, 1_200),
  /** Beginning to wait for a person to type a code. By address: so that few cannot fill what waits for everybody. */
  device: perMinute(60, 120),
  /** Asking whether a device was let in. */
  poll: perMinute(1_800, 1_800),
  join: perMinute(6_000, 20_000),
  webhook: perMinute(600, 600),
  /** Codes that people type or bring along. By person. */
  code: perMinute(20, 20),
  /** Credentials that prove nothing. By address. */
  failure: perMinute(300, 600),
  /** By principal. */
  terminal: perMinute(300, 300),
  create: perMinute(1_200, 4_000),
  /** All calls. */
  principal: { burst: 10_000, perSecond: 2_000 },
  address: { burst: 40_000, perSecond: 10_000 },
} as const satisfies Readonly<Record<string, RateRule>>;

export type LimitName = keyof typeof DEFAULTS;

export const DOOR_NAMES = ["login", "refresh", "validate", "device", "poll", "join", "webhook", "code"] as const;
/** Limits of routes that need no credential, and of codes. */
export type DoorName = (typeof DOOR_NAMES)[number];
export const DEED_NAMES = ["terminal", "create"] as const;
/** Limits of what principals do beside the general budget. */
export type DeedName = (typeof DEED_NAMES)[number];

/** By name; a limit that is left out is off. */
export interface RateRules extends Readonly<Partial<Record<LimitName, RateRule>>> {
  /** How many streams each may hold open at once. */
  readonly streams?: number;
}

export const LIMIT_NAMES = Object.keys(DEFAULTS) as readonly LimitName[];

/** Far above what browsers, programs and fleets of one person keep open. */
const USUAL_STREAMS = 500;

const SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600 };
const MOST = 1_000_000;

/**
 * What is configured: `off` for none at all, else changes to the defaults such as `login=60/m, address=100/s:500, poll=off`
 * (so many a second, minute or hour, and so many at once; by default as many as the time's) or `streams=100`. Throws
 * `RangeError`.
 */
export const parseRateRules = (text: string): RateRules => {
  if (text.trim() === "off") return {};
  const rules: Partial<Record<LimitName, RateRule>> = { ...DEFAULTS };
  let streams: number | undefined = USUAL_STREAMS;
  for (const entry of text.split(",").map((e) => e.trim())) {
    if (entry === "") continue;
    const [, name = "", value = ""] = /^(\w+)\s*=\s*(\S+)$/.exec(entry) ?? [];
    if (name === "streams") {
      streams = value === "off" ? undefined : mostOf(value, entry);
      continue;
    }
    const known = LIMIT_NAMES.find((n) => n === name);
    if (!known) throw new RangeError(`"${entry}": want one of ${LIMIT_NAMES.join(", ")}, as name=60/m, or streams=100`);
    if (value === "off") delete rules[known];
    else rules[known] = ruleOf(value, entry);
  }
  return streams === undefined ? rules : { ...rules, streams };
};

const mostOf = (value: string, entry: string): number => {
  const most = /^\d{1,7}$/.test(value) ? Number(value) : 0;
  if (most < 1 || most > MOST) throw new RangeError(`"${entry}": want a number from 1, as in streams=100, or off`);
  return most;
};

const ruleOf = (value: string, entry: string): RateRule => {
  const [, amount, unit = "", burst] = /^(\d{1,7})\/([smh])(?::(\d{1,7}))?$/.exec(value) ?? [];
  const many = Number(amount);
  const most = Number(burst ?? amount);
  if (!(many >= 1 && many <= MOST && most >= 1 && most <= MOST))
    throw new RangeError(`"${entry}": want a number from 1 per s, m or h, as in 60/m or 60/m:100, or off`);
  return { burst: most, perSecond: many / (SECONDS[unit] ?? 1) };
};
