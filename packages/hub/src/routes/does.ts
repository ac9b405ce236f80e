import type { Action, HubResource, Resource } from "../auth/index.ts";
import type { AccessRule } from "./access.ts";

/**
 * What a route does, and to what: declared beside its path, in the words of the access decision, so that a person can
 * read who may do what without reading handlers (spec/03 5.8). The lookups of the handlers demand what is declared here.
 */
export type Does = Decided | Listed | Apart | typeof PUBLIC | typeof NOTHING;

/** `decide` is asked before anything is shown or done. */
export interface Decided {
  readonly action: Action;
  readonly on: Resource["kind"];
}

/** Many at once: of these, what the caller may not read (or do) is left out, as if it were not there. */
export interface Listed {
  readonly action: "list" | "stopAll" | "broadcast";
  readonly on: Resource["kind"] | "event";
}

/**
 * What no decision is asked about, because the access rule of the route and the credential tell all there is:
 * `self` is the caller's own, where nobody else's can be named; `metrics` are the figures of a replica; `replica` is what
 * replicas ask of each other.
 */
export interface Apart {
  readonly action: Action | "list" | "connect";
  readonly on: "self" | "metrics" | "replica";
}

/** Needs no credential: what it tells is for everybody, or the body proves who asks (a join token, a refresh token). */
export const PUBLIC = { action: "anything", on: "public" } as const;

/** Shows and changes nothing of anybody's: constants, and parts that are not configured. */
export const NOTHING = { action: "nothing", on: "nothing" } as const;

/** The declaration as one reads it: `stop agent`. */
export const doesName = (does: Does): string =>
  does === PUBLIC || does === NOTHING ? does.on : `${does.action} ${does.on}`;

/** What is declared of every way into a replica: ordinary routes, and upgrades to WebSockets. */
export interface Declared {
  readonly method: string;
  /** With `:name` parameters. */
  readonly path: string;
  readonly access: AccessRule;
  readonly does: Does;
}

/**
 * Throws unless every one says what it does, and is open to everybody exactly if it says so: a route that was forgotten
 * must not serve.
 */
export const demandDeclared = (routes: readonly Declared[]): void => {
  for (const { method, path, access, does } of routes as readonly (Omit<Declared, "does"> & Partial<Declared>)[]) {
    const name = `${method} ${path}`;
    if (!does?.action || !does.on) throw new Error(`${name} does not declare what it does to what`);
    if ((access.name === "anyone") !== (does === PUBLIC))
      throw new Error(`${name}: what needs no credential is public, and nothing else`);
  }
};

/** What a look-up of such a resource demands for a route: the declared action, if it is about that; else reading. */
export const demandedOf = (does: Does, on: Resource["kind"]): Action => {
  if (!isDecided(does)) return "read";
  // An agent is not there yet when it is created: whether it may be is asked of its project.
  if (on === "project" && does.on === "agent") return does.action === "create" ? "create" : "read";
  return does.on === on ? does.action : "read";
};

/**
 * What is asked about the hub itself before a handler runs, where that is all there is to ask: what is to be created is
 * not there yet.
 */
export const demandedOfHub = (does: Does): { readonly action: Action; readonly resource: HubResource } | undefined => {
  if (!isDecided(does)) return undefined;
  if (does.on === "hub") return { action: does.action, resource: { kind: "hub" } };
  return does.action === "create" && does.on !== "agent"
    ? { action: "create", resource: { kind: "hub", of: does.on } }
    : undefined;
};

const NOT_DECIDED: ReadonlySet<string> = new Set<Exclude<Does["on"], Resource["kind"]>>([
  "self",
  "metrics",
  "replica",
  "event",
  "public",
  "nothing",
]);
const MANY: ReadonlySet<string> = new Set<Listed["action"]>(["list", "stopAll", "broadcast"]);

/** Whether the access decision is asked for exactly this. */
export const isDecided = (does: Does): does is Decided => !NOT_DECIDED.has(does.on) && !MANY.has(does.action);
