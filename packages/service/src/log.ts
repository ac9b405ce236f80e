import { type DestinationStream, type Logger, pino } from "pino";

/** A structured logger: a constant message, the data in fields, never a secret. */
export type Log = Logger;

export type LogLevel = "trace" | "debug" | "info" | "warn" | "error" | "silent";

export interface LogOptions {
  readonly level: LogLevel;
  /** Fields that every line carries, for example the replica's name. */
  readonly fields?: Readonly<Record<string, unknown>>;
  /** Where lines go; standard output by default. */
  readonly destination?: DestinationStream;
  /**
   * Lines are written together, some ten times a second, rather than each at once: for whoever logs a line per request.
   * An end of the process writes what is left; only a kill takes the last moment's with it.
   */
  readonly buffered?: boolean;
}

const BUFFERED = { sync: false, minLength: 8_192, periodicFlush: 100 };

/** Header and field names whose values never reach a log line, whoever logs the object that holds them. */
const SECRET_FIELDS = [
  "authorization",
  "cookie",
  '["set-cookie"]',
  '["x-scion-agent-token"]',
  '["x-scion-signature"]',
  '["x-rootstock-replica-token"]',
  '["x-goog-iap-jwt-assertion"]',
  "token",
  "accessToken",
  "refreshToken",
  "idToken",
  "deviceCode",
  "userCode",
  "inviteCode",
  "codeVerifier",
  "clientSecret",
  "secret",
  "secretKey",
  "joinToken",
  "password",
  "env",
  "resolvedEnv",
  "databaseUrl",
];

/** PostgreSQL quotes the row that a rule refused, with all that is in it; its rule and table are named beside it. */
const withoutRow = (err: unknown): unknown => {
  const told: unknown = err instanceof Error ? pino.stdSerializers.err(err) : err;
  if (typeof told !== "object" || told === null || !("detail" in told)) return told;
  return String(told.detail).startsWith("Failing row contains") ? { ...told, detail: "[row]" } : told;
};

/** The process's root logger, JSON lines. */
export const createLog = (options: LogOptions): Log => {
  const destination = options.destination ?? (options.buffered ? pino.destination(BUFFERED) : undefined);
  return pino(
    {
      level: options.level,
      base: { ...options.fields },
      timestamp: pino.stdTimeFunctions.isoTime,
      redact: {
        paths: SECRET_FIELDS.flatMap((f) => [f, f.startsWith("[") ? `*${f}` : `*.${f}`]),
        censor: "[redacted]",
      },
      serializers: { err: withoutRow },
    },
    ...(destination ? [destination] : []),
  );
};

/** A logger for lines whose fields are all ours and known to hold no secret: nothing is looked for in them. */
export const plainLog = (log: Log): Log => log.child({}, { redact: [] });

/** A logger that says nothing, for tests. */
export const silentLog = (): Log => pino({ level: "silent" });
