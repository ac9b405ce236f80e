import { HubError, notFound, parseUuid } from "@rootstock/protocol";
import { agentById, type Db, userById } from "@rootstock/store";
import { z } from "zod";
import {
  type AccessFacts,
  type Action,
  type AgentPrincipal,
  agentScopes,
  decide,
  type Explanation,
  explain,
  type Facts,
  isAdmin,
  type Principal,
  type Resource,
  type ResourceKind,
  type UserPrincipal,
} from "../auth/index.ts";
import { namedResource } from "./namedResources.ts";

/** Questions about rights: whose they may be, one's own or for admins anybody's, and how they are answered (spec/03 6.3). */

export interface AccessAboutDeps {
  readonly db: Db;
  readonly access: Pick<AccessFacts, "of">;
  /** Where there is one, agents' tokens allow more. */
  readonly developmentToken: string | undefined;
}

/** How a question names them. */
export const principalFields = {
  principalType: z.enum(["user", "agent"], "must be user or agent"),
  principalId: z.string().min(1).max(64),
};

interface Named {
  readonly principalType: "user" | "agent";
  readonly principalId: string;
}

/** What is told of somebody who may do nothing at all. */
export const SUSPENDED = { allowed: false, reason: "user is suspended" } as const;

/** Whose rights these are is told to themselves and to admins. Throws 403. */
export const demandSelfOrAdmin = (caller: Principal, { principalType: type, principalId: id }: Named): void => {
  if (isAdmin(caller)) return;
  if (caller.kind === type && caller.id === parseUuid(id)) return;
  throw new HubError("forbidden", "only admins ask about the rights of others");
};

/**
 * Whom a question is about, as they would call; `SUSPENDED` where there is nothing to ask. An agent that asks has the
 * scopes of its token, any other those of the tokens that agents are given. Throws 403 to who may not ask, 404 when there
 * is no such one.
 */
export const askedAbout = async (
  { db, developmentToken }: Pick<AccessAboutDeps, "db" | "developmentToken">,
  caller: Principal,
  named: Named,
): Promise<UserPrincipal | AgentPrincipal | typeof SUSPENDED> => {
  demandSelfOrAdmin(caller, named);
  const id = parseUuid(named.principalId);
  if (named.principalType === "user") {
    const user = id && (await userById(db, id));
    if (!user) throw notFound("User");
    if (user.status !== "active") return SUSPENDED;
    return { kind: "user", id: user.id, email: user.email, displayName: user.display_name, role: user.role };
  }
  const agent = id && (await agentById(db, id));
  if (!agent || agent.deleted_at !== null) throw notFound("Agent");
  if (caller.kind === "agent") return caller;
  const scopes = agentScopes({ development: developmentToken !== undefined });
  return { kind: "agent", id: agent.id, projectId: agent.project_id, scopes, ancestry: agent.ancestry };
};

/** What is asked: may they do this to that. */
export interface AccessQuestion {
  readonly about: UserPrincipal | AgentPrincipal;
  readonly action: Action;
  readonly kind: ResourceKind;
  readonly resourceId: string | undefined;
  readonly facts: Facts;
}

/**
 * The decision and what it was made from. What is not there, and what those whom it is about may not know to be there, are
 * explained to them alike. Throws 404 to admins where there is no such resource.
 */
export const explained = async (db: Db, caller: Principal, q: AccessQuestion): Promise<Explanation> => {
  const resource = isAdmin(caller) ? await namedResource(db, q.kind, q.resourceId) : await known(db, q);
  return resource ? explain(q.about, q.action, resource, q.facts) : nothing(q.facts);
};

/** The resource; undefined where there is none, or none that whom it is about may know of. */
const known = async (
  db: Db,
  { about, action, kind, resourceId, facts }: AccessQuestion,
): Promise<Resource | undefined> => {
  try {
    const resource = await namedResource(db, kind, resourceId);
    const may = (what: Action) => decide(about, what, resource, facts).allow;
    return resource.kind === "hub" || may("read") || may(action) ? resource : undefined;
  } catch (err) {
    if (err instanceof HubError && err.code === "not_found") return undefined;
    throw err;
  }
};

const nothing = ({ rights }: Facts): Explanation => ({
  allow: false,
  reason: "default deny",
  byFacts: true,
  groups: rights.groups,
  policies: rights.policies.length,
});
