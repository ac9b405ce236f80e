import { ERROR_STATUS, type ErrorCode } from "@rootstock/protocol";
import { limitOf } from "../limited.ts";
import type { Route } from "../route.ts";

/** The codes that a route may answer: those that follow from its declaration, and those that it says itself. */
export const codesOf = (route: Route): readonly ErrorCode[] => {
  const known = route.access.name !== "anyone";
  const sends = route.method !== "GET";
  const codes: readonly (ErrorCode | false | undefined)[] = [
    "invalid_request",
    "validation_error",
    "unavailable",
    known && "unauthorized",
    known && "session_expired",
    known && "broker_auth_failed",
    known && "forbidden",
    known && !route.duringMaintenance && "system_maintenance",
    known && "user_suspended",
    known && "unauthorized_domain",
    known && "identity_not_linked",
    route.path.includes(":") && "not_found",
    cursor(route) && "invalid_cursor",
    (!route.quiet || route.access.name !== "anyone" || limitOf(route) !== undefined) && "rate_limited",
    sends && "payload_too_large",
    sends && "request_in_progress",
    sends && "idempotency_key_reused",
    ...(route.refuses ?? []),
  ];
  return [...new Set(codes.filter((code) => code !== false && code !== undefined))];
};

/** The same by status. */
export const codesByStatus = (route: Route): ReadonlyMap<number, readonly ErrorCode[]> => {
  const byStatus = new Map<number, readonly ErrorCode[]>();
  for (const code of codesOf(route)) {
    const status = ERROR_STATUS[code];
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  return byStatus;
};

const cursor = ({ query }: Route): boolean =>
  query !== undefined && "shape" in query && typeof query.shape === "object" && "cursor" in (query.shape ?? {});
