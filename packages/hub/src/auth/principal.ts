import type { Uuid } from "@rootstock/protocol";
import type { Facts } from "./access/facts.ts";
import type { TokenLimits } from "./accessTokens.ts";

/** Who makes a request, as the credentials prove it (spec/03 section 1). Nothing is taken from the request itself. */
export type Principal =
  | { readonly kind: "nobody" }
  | UserPrincipal
  | AgentPrincipal
  | { readonly kind: "runtimeBroker"; readonly id: Uuid }
  /** Another replica of this hub. */
  | { readonly kind: "replica"; readonly instanceId: Uuid }
  /** A metrics collector with the scrape token. */
  | { readonly kind: "scraper" };

/** What has proved a principal, for whatever goes on after the call. */
export interface Proof {
  /** The row that says whether it still counts, where that is not the principal's own: a sign-in, an access token. */
  readonly id?: Uuid | undefined;
  /** When it ends by itself, in milliseconds since 1970; undefined: never. */
  readonly until?: number | undefined;
}

export interface UserPrincipal {
  readonly kind: "user";
  readonly id: Uuid;
  readonly email: string;
  readonly displayName: string;
  readonly role: "admin" | "member" | "viewer";
  /** Where a token speaks for the user: what it allows of what the user may do. */
  readonly limits?: TokenLimits;
  /** Where the user's browser speaks, by its cookie. */
  readonly session?: BrowserSession;
  /** Absent for what a proxy vouches for, call by call, and for the development token. */
  readonly proof?: Proof;
  /** What groups and policies give the user; nothing where it is absent. Throws when it cannot be read. */
  readonly facts?: () => Promise<Facts>;
}

/** A sign-in in a browser, as its cookie says. */
export interface BrowserSession {
  readonly signInId: Uuid;
  /** Of the user, when it began. */
  readonly tokenVersion: number;
  /** The name of the cookie that it is in. */
  readonly cookie: string;
  /** Whether it is time for a new cookie. */
  readonly due: boolean;
}

export interface AgentPrincipal {
  readonly kind: "agent";
  readonly id: Uuid;
  readonly projectId: Uuid;
  readonly scopes: readonly string[];
  /** Root first, the direct parent last. */
  readonly ancestry: readonly Uuid[];
  /** That of its token: a token that it gets for this one is no better. */
  readonly tokenVersion?: number;
  /** The container run that it speaks from, where its token says so. */
  readonly runId?: Uuid | undefined;
  readonly proof?: Proof;
  /** What groups and policies give the agent; nothing where it is absent. Throws when it cannot be read. */
  readonly facts?: () => Promise<Facts>;
}

export const NOBODY: Principal = { kind: "nobody" };

/** Whether this is an administrator of the hub. */
export const isAdmin = (p: Principal): boolean => p.kind === "user" && p.role === "admin";

/** A name for logs and idempotency keys: unique per principal, and no secret. */
export const principalName = (p: Principal): string => {
  switch (p.kind) {
    case "user":
      return p.limits ? `user:${p.id}/token:${p.limits.tokenId}` : `user:${p.id}`;
    case "agent":
    case "runtimeBroker":
      return `${p.kind}:${p.id}`;
    case "replica":
      return `replica:${p.instanceId}`;
    default:
      return p.kind;
  }
};

/** By whom is counted what a principal asks for: a person with all the tokens that they have given to programs. */
export const countedAs = (p: Principal): string => (p.kind === "user" ? `user:${p.id}` : principalName(p));

/** The people, agents and credentials by which a principal is what it is: when one of them changes, it is looked at again. */
export const standsBy = (p: Principal): ReadonlySet<Uuid> => {
  if (p.kind === "user") return new Set([p.id, ...(p.proof?.id ? [p.proof.id] : [])]);
  // What an agent may do hangs on whom it acts for.
  return new Set(p.kind === "agent" ? [p.id, ...p.ancestry] : []);
};

/** When what has proved a principal ends by itself, in milliseconds since 1970; undefined: never. */
export const provenUntil = (p: Principal): number | undefined =>
  p.kind === "user" || p.kind === "agent" ? p.proof?.until : undefined;

/** The id of whoever acts, for columns that name a creator; undefined for those that act for nobody. */
export const principalId = (p: Principal): Uuid | undefined =>
  p.kind === "user" || p.kind === "agent" || p.kind === "runtimeBroker" ? p.id : undefined;
