import type { DeedName, DoorName } from "../limits/index.ts";
import type { Route } from "./route.ts";

/**
 * Which limit a route has beside the general ones: a door is counted by the address of whoever knocks, or by the person
 * where one is known; a deed by who does it.
 */
export type Limited = DoorName | DeedName;

/** The route's limit. What changes something or proves somebody, and needs no credential, is never without one. */
export const limitOf = (route: Pick<Route, "method" | "access" | "limited">): Limited | undefined =>
  route.limited ?? (route.access.name === "anyone" && route.method !== "GET" ? "login" : undefined);
