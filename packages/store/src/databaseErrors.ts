/** What went wrong, told from the driver's error: SQLSTATE where the server answered, else the socket's code. */

const codeOf = (err: unknown): string | undefined => {
  if (typeof err !== "object" || err === null || !("code" in err)) return undefined;
  return typeof err.code === "string" ? err.code : undefined;
};

const SOCKET_CODES = new Set(["ECONNREFUSED", "ECONNRESET", "EPIPE", "ETIMEDOUT", "ENOTFOUND", "EAI_AGAIN", "ENOENT"]);
/** Shutting down, starting up, cannot connect now, too many connections, and read-only after a failover. */
const SERVER_CODES = new Set(["57P01", "57P02", "57P03", "57P05", "53300", "25006"]);
const LOST = /Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection error/;

/** Whether the database could not be reached or went away: the same call may succeed later. */
export const isDatabaseUnavailable = (err: unknown): boolean => {
  if (err instanceof AggregateError) return err.errors.some(isDatabaseUnavailable);
  const code = codeOf(err);
  if (code !== undefined) return SOCKET_CODES.has(code) || SERVER_CODES.has(code) || code.startsWith("08");
  return err instanceof Error && LOST.test(err.message);
};

/** Whether the statement ran into the server's time limit (57014) or a lock's (55P03). */
export const isStatementTimeout = (err: unknown): boolean => ["57014", "55P03"].includes(codeOf(err) ?? "");

/** Whether another transaction won and this one may be repeated: serialization failure or deadlock. */
export const isRetryable = (err: unknown): boolean => ["40001", "40P01"].includes(codeOf(err) ?? "");

/** Whether a unique index refused the row; with `constraint`, that one. */
export const isUniqueViolation = (err: unknown, constraint?: string): boolean =>
  codeOf(err) === "23505" &&
  (constraint === undefined ||
    (typeof err === "object" && err !== null && "constraint" in err && err.constraint === constraint));

/** Whether a foreign key refused the row. */
export const isForeignKeyViolation = (err: unknown): boolean => codeOf(err) === "23503";
