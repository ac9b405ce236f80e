import { DatabaseSilentError } from "./answers.ts";

/** What went wrong, told from the driver's error: SQLSTATE where the server answered, else the socket's code. */

const codeOf = (err: unknown): string | undefined => {
  if (typeof err !== "object" || err === null || !("code" in err)) return undefined;
  return typeof err.code === "string" ? err.code : undefined;
};

const SOCKET_CODES = new Set(["ECONNREFUSED", "ECONNRESET", "EPIPE", "ETIMEDOUT", "ENOTFOUND", "EAI_AGAIN", "ENOENT"]);
/** No room on the disk, in memory or for another connection. */
const FULL_CODES = ["53100", "53200", "53300"] as const;
/** Shutting down, starting up, cannot connect now, full, and read-only after a failover. */
const SERVER_CODES = new Set(["57P01", "57P02", "57P03", "57P05", "25006", ...FULL_CODES]);
const LOST = /Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection error/;

/** Whether the database could not be reached, went away or is full: the same call may succeed later. */
export const isDatabaseUnavailable = (err: unknown): boolean => {
  if (err instanceof AggregateError) return err.errors.some(isDatabaseUnavailable);
  if (err instanceof DatabaseSilentError) return true;
  const code = codeOf(err);
  if (code !== undefined) return SOCKET_CODES.has(code) || SERVER_CODES.has(code) || code.startsWith("08");
  return err instanceof Error && LOST.test(err.message);
};

/** What says that the statement never got to the server, or was refused there. */
const UNSENT_CODES = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "ENOENT", "57P03", "25006", ...FULL_CODES]);
const UNSENT = /timeout exceeded when trying to connect/;

/**
 * Whether the connection broke when the statement may have been carried out: nobody knows, until it is repeated in a way
 * that changes nothing when it was.
 */
export const isInDoubt = (err: unknown): boolean => {
  if (err instanceof AggregateError) return err.errors.some(isInDoubt);
  if (!isDatabaseUnavailable(err) || err instanceof DatabaseSilentError) return false;
  const code = codeOf(err);
  return code !== undefined ? !UNSENT_CODES.has(code) : !(err instanceof Error && UNSENT.test(err.message));
};

/** Whether the statement ran into the server's time limit (57014) or a lock's (55P03). */
export const isStatementTimeout = (err: unknown): boolean => ["57014", "55P03"].includes(codeOf(err) ?? "");

/** Whether a kept statement returns other columns than when it was planned: the schema has changed (0A000). */
export const isPreparedStatementStale = (err: unknown): boolean =>
  codeOf(err) === "0A000" && err instanceof Error && /cached plan must not change result type/.test(err.message);

/** Whether the server does not know a statement that was prepared, or knows one that was not (26000, 42P05). */
export const isPreparedStatementGone = (err: unknown): boolean => ["26000", "42P05"].includes(codeOf(err) ?? "");

/**
 * Whether a transaction may be repeated: another one won (serialization failure or deadlock), or a prepared statement
 * was out of date.
 */
export const isRetryable = (err: unknown): boolean =>
  ["40001", "40P01"].includes(codeOf(err) ?? "") || isPreparedStatementStale(err) || isPreparedStatementGone(err);

/** Whether the database role may not do that (42501). */
export const isForbidden = (err: unknown): boolean => codeOf(err) === "42501";

/** Whether a unique index refused the row; with `constraint`, that one. */
export const isUniqueViolation = (err: unknown, constraint?: string): boolean =>
  codeOf(err) === "23505" &&
  (constraint === undefined ||
    (typeof err === "object" && err !== null && "constraint" in err && err.constraint === constraint));

/** Whether a condition of the table, or a trigger in its place, refused the row; with `constraint`, that one. */
export const isCheckViolation = (err: unknown, constraint?: string): boolean =>
  codeOf(err) === "23514" &&
  (constraint === undefined ||
    (typeof err === "object" && err !== null && "constraint" in err && err.constraint === constraint));

/** Whether a foreign key refused the row. */
export const isForeignKeyViolation = (err: unknown): boolean => codeOf(err) === "23503";
