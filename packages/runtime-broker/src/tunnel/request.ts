import type { RequestFrame } from "@rootstock/protocol";
import { z } from "zod";
import { BrokerApiError } from "./errors.ts";

/** A request of the hub as it came through the tunnel, taken apart once. */
export interface TunnelRequest {
  readonly method: string;
  /** Percent-decoded path: what the signature covers. */
  readonly decodedPath: string;
  /** Decoded path segments, empty ones left out. */
  readonly segments: readonly string[];
  readonly rawQuery: string;
  readonly query: URLSearchParams;
  /** Names in lower case. */
  readonly headers: ReadonlyMap<string, string>;
  readonly body: Buffer;
}

const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;

const decode = (text: string): string => {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new BrokerApiError("invalid_request", "the path is not valid percent-encoding");
  }
};

/** @throws BrokerApiError 400 for a path, method or body that no request can have */
export const parseTunnelRequest = (frame: RequestFrame): TunnelRequest => {
  // The path may carry the query itself; the original's start call does (spec/01 3.3).
  const target = frame.query ? `${frame.path}?${frame.query}` : frame.path;
  const mark = target.indexOf("?");
  const path = mark < 0 ? target : target.slice(0, mark);
  const rawQuery = mark < 0 ? "" : target.slice(mark + 1);
  if (!path.startsWith("/")) throw new BrokerApiError("invalid_request", "the path must be absolute");
  if (!/^[A-Za-z]{1,16}$/.test(frame.method)) throw new BrokerApiError("invalid_request", "invalid method");
  const body = frame.body ?? "";
  if (!BASE64.test(body) || body.length % 4 !== 0)
    throw new BrokerApiError("invalid_request", "the body is not base64");
  return {
    method: frame.method.toUpperCase(),
    decodedPath: decode(path),
    segments: path
      .split("/")
      .filter((segment) => segment !== "")
      .map(decode),
    rawQuery,
    query: new URLSearchParams(rawQuery),
    headers: new Map(Object.entries(frame.headers ?? {}).map(([name, value]) => [name.toLowerCase(), value])),
    body: Buffer.from(body, "base64"),
  };
};

/** The project that scopes a lookup: `projectId`, or its older name. */
export const projectOf = (request: TunnelRequest): string =>
  request.query.get("projectId") || request.query.get("groveId") || "";

/**
 * The request's JSON body through `schema`; an empty body counts as `{}`.
 * @throws BrokerApiError 400 `invalid_request` for anything but a JSON object, `validation_error` naming the field
 */
export const parseBody = <T extends z.ZodType>(request: TunnelRequest, schema: T): z.infer<T> => {
  let value: unknown = {};
  if (request.body.byteLength > 0) {
    try {
      value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(request.body));
    } catch (err) {
      throw new BrokerApiError("invalid_request", "the body is not valid JSON", { cause: err });
    }
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const field = issue?.path.join(".") ?? "";
  throw new BrokerApiError("validation_error", `${field || "body"}: ${issue?.message ?? "invalid"}`, {
    details: { field },
  });
};

/** Text that Go leaves out, sends empty or sends as null: all mean "none". */
export const optionalText = z
  .string()
  .nullish()
  .transform((text) => text || undefined);

/** A map of strings, `{}` when absent or null. */
export const textMap = z
  .record(z.string(), z.string())
  .nullish()
  .transform((map) => map ?? {});

export const flag = z
  .boolean()
  .nullish()
  .transform((value) => value ?? false);
