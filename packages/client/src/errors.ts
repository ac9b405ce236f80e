import type { ErrorBody } from "@rootstock/protocol";

/** An answer with a status of 400 and above, with what its error envelope says (spec/02 1.2). */
export class HubResponseError extends Error {
  override readonly name = "HubResponseError";
  readonly status: number;
  /** The envelope's code, or `http_<status>` for an answer without an envelope. Compare this, not the message. */
  readonly code: string;
  readonly details: Readonly<Record<string, unknown>>;
  readonly requestId: string | undefined;
  /** Seconds after which the same request may succeed, from `Retry-After`. */
  readonly retryAfter: number | undefined;

  constructor(p: {
    readonly status: number;
    readonly code: string;
    readonly message: string;
    readonly details?: Readonly<Record<string, unknown>> | undefined;
    readonly requestId?: string | undefined;
    readonly retryAfter?: number | undefined;
  }) {
    super(p.message);
    this.status = p.status;
    this.code = p.code;
    this.details = p.details ?? {};
    this.requestId = p.requestId;
    this.retryAfter = p.retryAfter;
  }
}

/** No answer came: the hub is not there, the connection broke, or the time was over. `cause` holds the reason. */
export class HubUnreachableError extends Error {
  override readonly name = "HubUnreachableError";
  /** The time was over: whether the hub has acted is not known. */
  readonly timedOut: boolean;

  constructor(message: string, options: { readonly cause: unknown; readonly timedOut: boolean }) {
    super(message, { cause: options.cause });
    this.timedOut = options.timedOut;
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const isErrorBody = (value: unknown): value is ErrorBody =>
  isRecord(value) && isRecord(value.error) && typeof value.error.code === "string";

const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};

/** Longer texts, like HTML, are pages of some proxy, of no use on a terminal (spec/06 1.3). */
const MAX_PLAIN_MESSAGE = 500;

/** The error that an answer of status 400 and above stands for, whether it carries the envelope or plain text. */
export const responseError = (status: number, headers: Headers, text: string): HubResponseError => {
  const body = parseJson(text);
  const after = Number(headers.get("retry-after") ?? Number.NaN);
  const common = { status, retryAfter: Number.isFinite(after) ? after : undefined };
  const headerId = headers.get("x-request-id") ?? undefined;
  if (isErrorBody(body)) {
    const { code, message, details, requestId } = body.error;
    return new HubResponseError({ ...common, code, message, details, requestId: requestId ?? headerId });
  }
  // While the hub is closed for maintenance, `error` is the code itself (spec/03 2.2).
  if (isRecord(body) && typeof body.error === "string" && typeof body.message === "string")
    return new HubResponseError({ ...common, code: body.error, message: body.message, requestId: headerId });
  const plain = text.trim();
  const isReadable = plain !== "" && plain.length < MAX_PLAIN_MESSAGE && !plain.startsWith("<");
  const message = isReadable ? plain : `the hub answered with status ${status}`;
  return new HubResponseError({ ...common, code: `http_${status}`, message, requestId: headerId });
};
