import { HubError, wireError } from "@rootstock/protocol";
import type { Log } from "@rootstock/service";
import { isDatabaseUnavailable, isForeignKeyViolation, isStatementTimeout } from "@rootstock/store";

const RETRY_AFTER_SECONDS = 5;

/** What a caller is told of whatever was thrown. Only what nobody expected is an internal error, and logged here. */
export const toHubError = (err: unknown, log: Log): HubError => {
  if (err instanceof HubError) return err;
  if (isDatabaseUnavailable(err)) {
    log.warn({ err }, "database unavailable");
    return new HubError("unavailable", "the database is not available; try again shortly", {
      retryAfter: RETRY_AFTER_SECONDS,
      cause: err,
    });
  }
  if (isStatementTimeout(err)) {
    log.warn({ err }, "database too slow");
    return new HubError("unavailable", "the database did not answer in time; try again shortly", {
      retryAfter: RETRY_AFTER_SECONDS,
      cause: err,
    });
  }
  // It was looked up a moment ago, and is gone when something that belongs to it is written.
  if (isForeignKeyViolation(err))
    return new HubError("not_found", "not found: what this call is about was deleted meanwhile", { cause: err });
  log.error({ err }, "request failed");
  return new HubError("internal_error", "internal error; the request id finds it in the log", { cause: err });
};

/** The one place that renders an error. */
export const renderError = (err: HubError, requestId?: string): Response =>
  new Response(JSON.stringify(wireError(err, requestId)), {
    status: err.status,
    headers: {
      "content-type": "application/json",
      ...err.headers,
      ...(err.retryAfter !== undefined && { "retry-after": String(err.retryAfter) }),
    },
  });
