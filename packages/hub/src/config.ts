import { hostname } from "node:os";
import type { LogLevel } from "@rootstock/service";
import { z } from "zod";
import { AddressList, DRAW_ONE, weaknessOf } from "./auth/index.ts";
import { httpUrl, listOf, problemsOf, switchOf } from "./configValues.ts";
import { type CorsOrigins, parseCorsOrigins } from "./http/index.ts";
import { parseRateRules, type RateRules } from "./limits/index.ts";
import {
  checkKeyFile,
  KeyFileError,
  type KeyKeeper,
  KeyKeepersError,
  parseKeyKeepers,
  parseRootSecrets,
  type RootSecrets,
  RootSecretsError,
} from "./secrets/index.ts";
import { parseSignIn, SIGN_IN_VARIABLES, type SignInConfig } from "./signInConfig.ts";
import { parseTransport, TRANSPORT_VARIABLES, type TransportConfig } from "./transportConfig.ts";

/** Everything that a replica is told from outside. Production differs from the quick start by this alone. */
export interface HubConfig {
  readonly databaseUrl: string;
  /** Past any pooling proxy: LISTEN and advisory locks need a session of their own. */
  readonly databaseDirectUrl: string;
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
  /** The first signs and seals, all verify and open. */
  readonly secrets: RootSecrets;
  /** Who wraps the keys of what is stored encrypted; the first wraps, all unwrap. */
  readonly keyKeepers: readonly KeyKeeper[];
  readonly name: string;
  /** Where other replicas reach this one; by default host and port where that is a loopback address. */
  readonly internalUrl: string | undefined;
  readonly publicUrl: string | undefined;
  readonly developmentToken: string | undefined;
  readonly metricsToken: string | undefined;
  /** Addresses and networks whose X-Forwarded headers are believed. */
  readonly trustedProxies: AddressList;
  /** How long the audit log is kept, in seconds; 0: for ever. */
  readonly auditSeconds: number;
  readonly rateRules: RateRules;
  /** Whose pages may read what the API answers, without the browser's own credentials. */
  readonly corsOrigins: CorsOrigins;
  readonly signIn: SignInConfig;
  /** Undefined: nothing stands before the hub that agents would have to get through. */
  readonly transport: TransportConfig | undefined;
  readonly softDeleteSeconds: number;
  readonly undeliveredMessageSeconds: number;
  /** How long messages are kept once they have come to their end, in seconds; 0: for ever. */
  readonly historySeconds: number;
  /** How far back event streams can be resumed, in seconds. */
  readonly feedSeconds: number;
  readonly poolSize: number;
  readonly logLevel: LogLevel;
  /** Whether to run pending migrations at start. */
  readonly migrate: boolean;
  /** How long a draining replica goes on answering before it lets go of its sockets, in seconds. */
  readonly drainSeconds: number;
  readonly stalledAfterSeconds: number;
  /** How long a terminal may be open without a byte in either direction, in seconds; 0: for ever. */
  readonly terminalIdleSeconds: number;
  /** How long a terminal may be open at all, in seconds; 0: for ever. */
  readonly terminalLimitSeconds: number;
  /** How replicas pass on streams and calls: at each other's internal URLs, through the database, or as it turns out. */
  readonly streamRelay: "auto" | "peer" | "postgres";
  /** Where spans go; undefined: nowhere. */
  readonly spans: SpanConfig | undefined;
}

/** Where spans go and which. */
export interface SpanConfig {
  /** OTLP over HTTP, path and all. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly serviceName: string;
  /** The share of traces begun by this hub that is recorded, 0 to 1. */
  readonly ratio: number;
}

/** The configuration is unusable; `problems` lists everything that is wrong with it. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(`invalid configuration:\n${problems.map((p) => `  - ${p}`).join("\n")}`);
    this.problems = problems;
  }
}

/** The variables of a replica with what they mean, for help texts. */
export const HUB_VARIABLES: Readonly<Record<string, string>> = {
  DATABASE_URL: "PostgreSQL, perhaps through a transaction-pooling proxy (required)",
  DATABASE_DIRECT_URL: "PostgreSQL past any pooling proxy (default: DATABASE_URL)",
  HOST: "address to listen on (default 127.0.0.1)",
  PORT: "port to listen on (default 8080; 0: any free one)",
  ROOTSTOCK_SECRET:
    "shared by all replicas, at least 32 bytes; keys are derived from it. A list, separated by commas: the first signs and encrypts, all are accepted (required)",
  ROOTSTOCK_KMS:
    "who wraps the keys of what is stored encrypted, as a list separated by commas: secret (ROOTSTOCK_SECRET), file:<path> (a file of keys). The first wraps, all unwrap (default: secret)",
  ROOTSTOCK_NAME: "name of this replica in logs and health (default: host name)",
  ROOTSTOCK_INTERNAL_URL: "where other replicas reach this one (default: its own address when it is a loopback one)",
  ROOTSTOCK_PUBLIC_URL:
    "where clients and containers reach the hub (default: in links the request's own origin, for containers where their runtime broker dials)",
  ROOTSTOCK_TRUSTED_PROXIES: "comma-separated addresses and networks whose X-Forwarded headers are believed",
  SCION_DEV_TOKEN: "turns development login on: whoever shows this token (scion_dev_ + 64 hex digits) is an admin",
  ROOTSTOCK_ALLOW_REMOTE_DEV_LOGIN: "1: development login on a host that is not loopback, too",
  ROOTSTOCK_METRICS_TOKEN:
    "bearer token with which /metrics may be read without being an admin; drawn, 16 characters at least",
  ROOTSTOCK_SOFT_DELETE_RETENTION:
    "how long a deleted agent can be restored, for example 72h; 0 deletes at once (default 72h)",
  ROOTSTOCK_MESSAGE_RETENTION: "how long an undelivered message waits for its agent (default 168h)",
  ROOTSTOCK_HISTORY_RETENTION:
    "how long messages are kept once they were delivered, read or given up; unread ones to persons twice as long; 0: for ever (default 2160h)",
  ROOTSTOCK_CORS_ORIGINS:
    "comma-separated origins whose pages may call the API with tokens of their own, * for any, or none (default *)",
  ROOTSTOCK_RATE_LIMITS:
    "changes to how much anybody may ask, as name=60/m:100, streams=50 or name=off, separated by commas; off: no limits at all (default: see the README)",
  ROOTSTOCK_AUDIT_RETENTION: "how long the audit log is kept, 24h at least; 0: for ever (default 8760h)",
  ROOTSTOCK_FEED_RETENTION: "how far back an event stream can be resumed (default 168h)",
  ROOTSTOCK_STALLED_AFTER: "how long an agent may show no activity before it counts as stalled (default 5m)",
  ROOTSTOCK_TERMINAL_IDLE: "how long a terminal may stay open while nothing is typed or shown (default 0: for ever)",
  ROOTSTOCK_TERMINAL_LIMIT: "how long a terminal may stay open at all (default 0: for ever)",
  ROOTSTOCK_STREAM_RELAY:
    "how replicas pass terminals, logs, exec and stops on: peer (internal URLs), postgres (the database), auto (default: the first that works)",
  OTEL_EXPORTER_OTLP_ENDPOINT:
    "where spans are sent as OTLP over HTTP, for example http://collector:4318 (default: nowhere)",
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "the same with its path, instead of the endpoint's /v1/traces",
  OTEL_EXPORTER_OTLP_HEADERS: "headers of every export, as name=value,name=value (percent-encoded values)",
  OTEL_SERVICE_NAME: "name of the service in spans (default rootstock)",
  ROOTSTOCK_TRACE_RATIO: "share of the traces begun here that is recorded, 0 to 1 (default 1)",
  ROOTSTOCK_POOL_SIZE: "database connections of the pool; a replica uses this many and two more (default 10)",
  ROOTSTOCK_LOG_LEVEL: "trace, debug, info, warn, error or silent (default info)",
  ROOTSTOCK_MIGRATE: "0: do not run pending migrations at start (default 1)",
  ...SIGN_IN_VARIABLES,
  ...TRANSPORT_VARIABLES,
  ROOTSTOCK_DRAIN_SECONDS: "how long a stopping replica goes on answering first (default 5)",
};

const UNIT_SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 };

const duration = (fallback: string) =>
  z
    .string()
    .default(fallback)
    .transform((text, context) => {
      const match = /^(\d+(?:\.\d+)?)(s|m|h|d)?$/.exec(text.trim());
      if (!match) {
        context.addIssue({ code: "custom", message: `want a duration such as 90s, 5m, 72h or 0, not "${text}"` });
        return z.NEVER;
      }
      return Number(match[1]) * (UNIT_SECONDS[match[2] ?? "s"] ?? 1);
    });

const integer = (fallback: number, min: number, max: number) =>
  z.coerce.number({ error: "want a number" }).int().min(min).max(max).default(fallback);

const isPostgres = (url: string): boolean => /^postgres(ql)?:\/\//.test(url) && URL.canParse(url);
const postgresUrl = z.string().refine(isPostgres, "want postgres://user:password@host/database");

/** `name=value,name=value`, values percent-encoded, as the OpenTelemetry specification has it. */
const headerList = z.string().transform((text, context) => {
  const headers: Record<string, string> = {};
  for (const pair of text.split(",").filter((p) => p.trim() !== "")) {
    const [, name, value] = /^\s*([A-Za-z0-9!#$%&'*+.^_`|~-]+)\s*=\s*(.*?)\s*$/.exec(pair) ?? [];
    const decoded = value === undefined ? undefined : percentDecoded(value);
    if (name === undefined || decoded === undefined || /[^\t\x20-\x7e]/.test(decoded)) {
      // Not quoted: the value is most probably a key.
      context.addIssue({ code: "custom", message: "want name=value,name=value with percent-encoded values" });
      return z.NEVER;
    }
    headers[name] = decoded;
  }
  return headers;
});

const percentDecoded = (text: string): string | undefined => {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
};

const rootSecrets = z
  .string({ error: "is required: at least 32 bytes, the same on every replica" })
  .transform((text, context): RootSecrets => {
    try {
      return parseRootSecrets(text);
    } catch (err) {
      if (!(err instanceof RootSecretsError)) throw err;
      for (const message of err.problems) context.addIssue({ code: "custom", message });
      return z.NEVER;
    }
  });

const addressList = z
  .string()
  .default("")
  .transform((text, context) => {
    try {
      return new AddressList(listOf(text));
    } catch (err) {
      if (!(err instanceof RangeError)) throw err;
      context.addIssue({ code: "custom", message: err.message });
      return z.NEVER;
    }
  });

const corsOrigins = z
  .string()
  .default("*")
  .transform((text, context) => {
    try {
      return parseCorsOrigins(text);
    } catch (err) {
      if (!(err instanceof RangeError)) throw err;
      context.addIssue({ code: "custom", message: err.message });
      return z.NEVER;
    }
  });

const rateRules = z
  .string()
  .default("")
  .transform((text, context) => {
    try {
      return parseRateRules(text);
    } catch (err) {
      if (!(err instanceof RangeError)) throw err;
      context.addIssue({ code: "custom", message: err.message });
      return z.NEVER;
    }
  });

const keyKeepers = z
  .string()
  .default("secret")
  .transform((text, context): readonly KeyKeeper[] => {
    try {
      const keepers = parseKeyKeepers(text);
      for (const keeper of keepers) if (keeper.kind === "file") checkKeyFile(keeper.path);
      return keepers;
    } catch (err) {
      if (!(err instanceof KeyKeepersError || err instanceof KeyFileError)) throw err;
      context.addIssue({ code: "custom", message: err.message });
      return z.NEVER;
    }
  });

const schema = z.object({
  DATABASE_URL: postgresUrl,
  DATABASE_DIRECT_URL: postgresUrl.optional(),
  HOST: z.string().default("127.0.0.1"),
  PORT: integer(8080, 0, 65_535),
  ROOTSTOCK_SECRET: rootSecrets,
  ROOTSTOCK_KMS: keyKeepers,
  ROOTSTOCK_NAME: z.string().max(100).optional(),
  ROOTSTOCK_INTERNAL_URL: httpUrl.optional(),
  ROOTSTOCK_PUBLIC_URL: httpUrl.optional(),
  ROOTSTOCK_TRUSTED_PROXIES: addressList,
  ROOTSTOCK_RATE_LIMITS: rateRules,
  ROOTSTOCK_CORS_ORIGINS: corsOrigins,
  ROOTSTOCK_AUDIT_RETENTION: duration("8760h").refine((s) => s === 0 || s >= 86_400, "want at least 24h, or 0"),
  SCION_DEV_TOKEN: z
    .string()
    .regex(/^scion_dev_[0-9a-f]{64}$/, "must be scion_dev_ and 64 hexadecimal digits")
    .optional(),
  ROOTSTOCK_ALLOW_REMOTE_DEV_LOGIN: switchOf("0"),
  ROOTSTOCK_METRICS_TOKEN: z
    .string()
    .refine((token) => weaknessOf(token) === undefined, {
      error: ({ input }) => `may be guessed (${weaknessOf(String(input))}): ${DRAW_ONE}`,
    })
    .optional(),
  ROOTSTOCK_SOFT_DELETE_RETENTION: duration("72h"),
  ROOTSTOCK_MESSAGE_RETENTION: duration("168h"),
  ROOTSTOCK_HISTORY_RETENTION: duration("2160h"),
  ROOTSTOCK_FEED_RETENTION: duration("168h"),
  ROOTSTOCK_STALLED_AFTER: duration("5m"),
  ROOTSTOCK_TERMINAL_IDLE: duration("0"),
  ROOTSTOCK_TERMINAL_LIMIT: duration("0"),
  ROOTSTOCK_STREAM_RELAY: z.enum(["auto", "peer", "postgres"]).default("auto"),
  OTEL_EXPORTER_OTLP_ENDPOINT: httpUrl.optional(),
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: httpUrl.optional(),
  OTEL_EXPORTER_OTLP_HEADERS: headerList.optional(),
  OTEL_SERVICE_NAME: z.string().max(255).default("rootstock"),
  ROOTSTOCK_TRACE_RATIO: z.coerce.number({ error: "want a number" }).min(0).max(1).default(1),
  ROOTSTOCK_POOL_SIZE: integer(10, 2, 1_000),
  ROOTSTOCK_LOG_LEVEL: z.enum(["trace", "debug", "info", "warn", "error", "silent"]).default("info"),
  ROOTSTOCK_MIGRATE: switchOf("1"),
  ROOTSTOCK_DRAIN_SECONDS: z.coerce.number({ error: "want a number" }).min(0).max(600).default(5),
});

/** Whether an address is only reachable from this machine. */
export const isLoopback = (host: string): boolean =>
  host === "localhost" || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host);

/** What is needed to go through the secrets that are stored. */
export type StoredSecretsConfig = Pick<HubConfig, "databaseUrl" | "secrets" | "keyKeepers" | "logLevel">;

const storedSecretsSchema = schema.pick({
  DATABASE_URL: true,
  DATABASE_DIRECT_URL: true,
  ROOTSTOCK_SECRET: true,
  ROOTSTOCK_KMS: true,
  ROOTSTOCK_LOG_LEVEL: true,
});

/** The part of a replica's configuration that its stored secrets need. Throws {@link ConfigError}. */
export const loadStoredSecretsConfig = (env: Readonly<Record<string, string | undefined>>): StoredSecretsConfig => {
  const parsed = storedSecretsSchema.safeParse(setVariables(env));
  if (!parsed.success) throw new ConfigError(problemsOf(parsed.error));
  const c = parsed.data;
  return {
    databaseUrl: c.DATABASE_DIRECT_URL ?? c.DATABASE_URL,
    secrets: c.ROOTSTOCK_SECRET,
    keyKeepers: c.ROOTSTOCK_KMS,
    logLevel: c.ROOTSTOCK_LOG_LEVEL,
  };
};

type Variables = Readonly<Record<string, string | undefined>>;

const setVariables = (env: Variables): Variables =>
  Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined && value !== ""));

/**
 * The configuration in these variables. An empty one counts as not set. Throws {@link ConfigError} with every problem at
 * once, unknown ROOTSTOCK_ variables included: a misspelt one would silently mean its default.
 */
export const loadHubConfig = (env: Readonly<Record<string, string | undefined>> = process.env): HubConfig => {
  const set = setVariables(env);
  const given = Object.fromEntries(Object.entries(set).filter(([name]) => name in HUB_VARIABLES));
  const parsed = schema.safeParse(given);
  const problems = parsed.success ? [] : problemsOf(parsed.error);
  const signIn = parseSignIn(given, isLoopback(set.HOST ?? "127.0.0.1"));
  const transport = parseTransport(given);
  problems.push(...signIn.problems, ...transport.problems);
  const host = set.HOST ?? "127.0.0.1";
  if (set.SCION_DEV_TOKEN && !isLoopback(host) && !["1", "true"].includes(set.ROOTSTOCK_ALLOW_REMOTE_DEV_LOGIN ?? ""))
    problems.push(
      `SCION_DEV_TOKEN: development login on ${host} would be open to the network; set ROOTSTOCK_ALLOW_REMOTE_DEV_LOGIN=1 if that is meant`,
    );
  const weakness =
    set.SCION_DEV_TOKEN && !isLoopback(host) && weaknessOf(set.SCION_DEV_TOKEN.replace(/^scion_dev_/, ""));
  if (weakness)
    problems.push(`SCION_DEV_TOKEN: may be guessed (${weakness}): scion_dev_ and what is drawn; ${DRAW_ONE}`);
  if (!parsed.success || !signIn.config || problems.length > 0) throw new ConfigError(problems);
  const c = parsed.data;
  return Object.freeze({
    databaseUrl: c.DATABASE_URL,
    databaseDirectUrl: c.DATABASE_DIRECT_URL ?? c.DATABASE_URL,
    host: c.HOST,
    port: c.PORT,
    secrets: c.ROOTSTOCK_SECRET,
    keyKeepers: c.ROOTSTOCK_KMS,
    name: c.ROOTSTOCK_NAME ?? hostname(),
    internalUrl: c.ROOTSTOCK_INTERNAL_URL,
    publicUrl: c.ROOTSTOCK_PUBLIC_URL,
    developmentToken: c.SCION_DEV_TOKEN,
    metricsToken: c.ROOTSTOCK_METRICS_TOKEN,
    trustedProxies: c.ROOTSTOCK_TRUSTED_PROXIES,
    auditSeconds: c.ROOTSTOCK_AUDIT_RETENTION,
    rateRules: c.ROOTSTOCK_RATE_LIMITS,
    corsOrigins: c.ROOTSTOCK_CORS_ORIGINS,
    signIn: signIn.config,
    transport: transport.config,
    softDeleteSeconds: c.ROOTSTOCK_SOFT_DELETE_RETENTION,
    undeliveredMessageSeconds: c.ROOTSTOCK_MESSAGE_RETENTION,
    historySeconds: c.ROOTSTOCK_HISTORY_RETENTION,
    feedSeconds: c.ROOTSTOCK_FEED_RETENTION,
    poolSize: c.ROOTSTOCK_POOL_SIZE,
    logLevel: c.ROOTSTOCK_LOG_LEVEL,
    migrate: c.ROOTSTOCK_MIGRATE,
    drainSeconds: c.ROOTSTOCK_DRAIN_SECONDS,
    stalledAfterSeconds: c.ROOTSTOCK_STALLED_AFTER,
    terminalIdleSeconds: c.ROOTSTOCK_TERMINAL_IDLE,
    terminalLimitSeconds: c.ROOTSTOCK_TERMINAL_LIMIT,
    streamRelay: c.ROOTSTOCK_STREAM_RELAY,
    spans: spansOf(c),
  });
};

const spansOf = (c: z.output<typeof schema>): SpanConfig | undefined => {
  const base = c.OTEL_EXPORTER_OTLP_ENDPOINT;
  const url = c.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ?? (base && `${base}/v1/traces`);
  if (!url) return undefined;
  const { OTEL_EXPORTER_OTLP_HEADERS: headers = {}, OTEL_SERVICE_NAME: serviceName, ROOTSTOCK_TRACE_RATIO: ratio } = c;
  return { url, headers, serviceName, ratio };
};
