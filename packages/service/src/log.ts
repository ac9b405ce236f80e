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
}

/** Header and field names whose values never reach a log line, whoever logs the object that holds them. */
const SECRET_FIELDS = [
  "authorization",
  "cookie",
  "token",
  "secret",
  "secretKey",
  "joinToken",
  "password",
  "env",
  "resolvedEnv",
  "databaseUrl",
];

/** The process's root logger, JSON lines. */
export const createLog = (options: LogOptions): Log =>
  pino(
    {
      level: options.level,
      base: { ...options.fields },
      timestamp: pino.stdTimeFunctions.isoTime,
      redact: { paths: SECRET_FIELDS.flatMap((f) => [f, `*.${f}`]), censor: "[redacted]" },
    },
    ...(options.destination ? [options.destination] : []),
  );

/** A logger that says nothing, for tests. */
export const silentLog = (): Log => pino({ level: "silent" });
