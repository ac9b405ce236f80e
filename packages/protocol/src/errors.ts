/**
 * Every error code that the hub answers, with its HTTP status (spec/02 1.2, spec/08 1.1). Clients compare codes, so a
 * code is never renamed; a new refusal takes a code from this list or adds one here.
 */
export const ERROR_STATUS = {
  invalid_request: 400,
  validation_error: 400,
  invalid_name: 400,
  invalid_cursor: 400,
  bad_request: 400,
  oauth_error: 400,
  invalid_provider: 400,
  unauthorized: 401,
  session_expired: 401,
  broker_auth_failed: 401,
  invalid_join_token: 401,
  expired_join_token: 401,
  invalid_provider_token: 401,
  forbidden: 403,
  unauthorized_domain: 403,
  user_suspended: 403,
  identity_not_linked: 403,
  not_found: 404,
  method_not_allowed: 405,
  request_timeout: 408,
  conflict: 409,
  version_conflict: 409,
  invalid_state: 409,
  agent_not_running: 409,
  request_in_progress: 409,
  limit_exceeded: 409,
  already_exists: 409,
  identity_taken: 409,
  payload_too_large: 413,
  no_runtime_broker: 422,
  missing_env_vars: 422,
  unprocessable: 422,
  idempotency_key_reused: 422,
  raw_input_removed: 422,
  rate_limited: 429,
  too_many_streams: 429,
  headers_too_large: 431,
  internal_error: 500,
  not_implemented: 501,
  runtime_error: 502,
  unavailable: 503,
  runtime_broker_unavailable: 503,
  runtime_attach_unsupported: 503,
  storage_unavailable: 503,
  system_maintenance: 503,
} as const satisfies Record<string, number>;

export type ErrorCode = keyof typeof ERROR_STATUS;

export interface HubErrorOptions {
  /** Machine-readable particulars; clients read some of them (`field`, `availableBrokers`, `missingKeys`, …). */
  readonly details?: Readonly<Record<string, unknown>>;
  /** Seconds after which the same request may succeed: becomes `Retry-After`. */
  readonly retryAfter?: number;
  readonly cause?: unknown;
  /** What the answer carries besides, by name in lower case. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** The error envelope of every JSON answer with a status of 400 and above (spec/02 1.2). */
export interface ErrorBody {
  readonly error: {
    readonly code: string;
    readonly message: string;
    readonly details?: Readonly<Record<string, unknown>>;
    readonly requestId?: string;
  };
}

/** A refusal or failure with a code of the closed set. Thrown where it is found, rendered once at the edge. */
export class HubError extends Error {
  override readonly name = "HubError";
  readonly code: ErrorCode;
  readonly details: Readonly<Record<string, unknown>> | undefined;
  readonly retryAfter: number | undefined;
  /** What the answer carries besides, by name in lower case. */
  readonly headers: Readonly<Record<string, string>>;

  constructor(code: ErrorCode, message: string, options: HubErrorOptions = {}) {
    super(message, { cause: options.cause });
    this.code = code;
    this.details = options.details;
    this.retryAfter = options.retryAfter;
    this.headers = options.headers ?? {};
  }

  get status(): (typeof ERROR_STATUS)[ErrorCode] {
    return ERROR_STATUS[this.code];
  }

  /** The envelope as it goes over the wire. */
  toBody(requestId?: string): ErrorBody {
    return {
      error: {
        code: this.code,
        message: this.message,
        ...(this.details && { details: this.details }),
        ...(requestId && { requestId }),
      },
    };
  }
}

/** A field that breaks a rule: 400 `validation_error` naming the field. */
export const invalidField = (field: string, message: string): HubError =>
  new HubError("validation_error", message, { details: { field } });

/** 404 for a resource; the message names it. */
export const notFound = (what: string): HubError => new HubError("not_found", `${what} not found`);

/** What an error is on the wire: the envelope, but for maintenance, whose `error` is the code itself (spec/03 2.2). */
export const wireError = (err: HubError, requestId?: string): object =>
  err.code === "system_maintenance" ? { error: err.code, message: err.message } : err.toBody(requestId);
