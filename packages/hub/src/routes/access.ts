import type { Principal } from "../auth/index.ts";

/** Which kinds of principal may call a route at all. What they may do to a resource is decided when it is known. */
export interface AccessRule {
  readonly name: string;
  readonly allows: (principal: Principal) => boolean;
}

const kinds = (name: string, ...allowed: readonly Principal["kind"][]): AccessRule => ({
  name,
  allows: (p) => allowed.includes(p.kind),
});

/** No credential needed. */
export const anyone: AccessRule = { name: "anyone", allows: () => true };
/** Any user, agent or runtime broker. */
export const authenticated = kinds("authenticated", "user", "agent", "runtimeBroker");
export const users = kinds("users", "user");
export const usersAndAgents = kinds("users and agents", "user", "agent");
export const agents = kinds("agents", "agent");
export const runtimeBrokers = kinds("runtime brokers", "runtimeBroker");
export const usersAndRuntimeBrokers = kinds("users and runtime brokers", "user", "runtimeBroker");
export const replicas = kinds("replicas", "replica");
export const admins: AccessRule = { name: "admins", allows: (p) => p.kind === "user" && p.role === "admin" };
/** Admins, and a metrics collector with the scrape token. */
export const adminsAndScrapers: AccessRule = {
  name: "admins and metrics collectors",
  allows: (p) => p.kind === "scraper" || admins.allows(p),
};
