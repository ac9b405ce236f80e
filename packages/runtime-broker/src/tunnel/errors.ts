import type { ErrorBody } from "@rootstock/protocol";

/**
 * Error codes of the runtime broker's own API with their status (spec/01 4.1). Not the hub's: there a `runtime_error` is
 * a 502, because for the hub's caller it happened behind the hub.
 */
export const BROKER_ERROR_STATUS = {
  invalid_request: 400,
  validation_error: 400,
  broker_auth_failed: 401,
  agent_not_found: 404,
  not_found: 404,
  method_not_allowed: 405,
  conflict: 409,
  agent_not_running: 409,
  payload_too_large: 413,
  runtime_error: 500,
  internal_error: 500,
  not_implemented: 501,
  unavailable: 503,
} as const satisfies Record<string, number>;
export type BrokerErrorCode = keyof typeof BROKER_ERROR_STATUS;

/** A refusal or failure of an operation, rendered once by the dispatcher. */
export class BrokerApiError extends Error {
  override readonly name = "BrokerApiError";
  readonly code: BrokerErrorCode;
  readonly details: Readonly<Record<string, unknown>> | undefined;

  constructor(
    code: BrokerErrorCode,
    message: string,
    options: { readonly details?: Readonly<Record<string, unknown>>; readonly cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause });
    this.code = code;
    this.details = options.details;
  }

  get status(): number {
    return BROKER_ERROR_STATUS[this.code];
  }

  /** The envelope as it goes over the wire. */
  toBody(): ErrorBody {
    return { error: { code: this.code, message: this.message, ...(this.details && { details: this.details }) } };
  }
}

/** 404 for an agent that this runtime broker does not know. */
export const agentNotFound = (name: string): BrokerApiError =>
  new BrokerApiError("agent_not_found", `Agent "${name}" not found`);
