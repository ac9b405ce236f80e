import { HubError, notFound } from "@rootstock/protocol";
import type { AgentView, GroupView, PolicyRow, ProjectRow, ReadRule, ReadScope, UserRow } from "@rootstock/store";
import {
  type Action,
  type AgentResource,
  decide,
  decisionOn,
  type Facts,
  factsOf,
  type HubResource,
  type Principal,
  type ProjectResource,
  type Resource,
  readRules as rulesOf,
  type StoredResource,
  readScope as scopeOf,
} from "../auth/index.ts";
import { type Capabilities, ITEM_ACTIONS, LIST_ACTIONS } from "../wire/index.ts";
import { Hidden } from "./hidden.ts";

/** The access decision, asked in the words of the routes. */

/**
 * The principal with its facts at hand, for decisions in a transaction: one that holds a connection must not wait for a
 * second, or as many as the pool has connections wait for each other.
 */
export const withFacts = async <P extends Principal>(principal: P): Promise<P> => {
  const facts = await factsOf(principal);
  return { ...principal, facts: async () => facts };
};

/** The rows that `decide` lets the principal read, for lists. */
export const readScope = async (principal: Principal, of: "projects" | "agents" = "projects"): Promise<ReadScope> =>
  scopeOf(principal, of, await factsOf(principal));

/** What policies say of reading things of this kind, for lists of them. */
export const readRules = async (principal: Principal, kind: "group" | "user"): Promise<readonly ReadRule[]> =>
  rulesOf(await factsOf(principal), kind);

/** A project as the decision knows it. `providers`: the runtime brokers that serve it, where one of them may ask. */
export const projectResource = (
  p: Pick<ProjectRow, "id" | "owner_id" | "visibility" | "labels">,
  providers: readonly string[] = [],
): ProjectResource => ({
  kind: "project",
  id: p.id,
  ownerId: p.owner_id,
  visibility: p.visibility,
  labels: p.labels,
  providers,
});

/** An agent as the decision knows it. */
export const agentResource = (
  a: Pick<
    AgentView,
    | "id"
    | "project_id"
    | "owner_id"
    | "ancestry"
    | "runtime_broker_id"
    | "labels"
    | "project_owner_id"
    | "project_visibility"
    | "visibility"
  >,
): AgentResource => ({
  kind: "agent",
  id: a.id,
  projectId: a.project_id,
  ownerId: a.owner_id,
  ancestry: a.ancestry,
  runtimeBrokerId: a.runtime_broker_id,
  labels: a.labels,
  projectOwnerId: a.project_owner_id,
  visibility: a.visibility,
  projectVisibility: a.project_visibility,
});

/** A group as the decision knows it. */
export const groupResource = (g: GroupView): StoredResource => ({
  kind: "group",
  id: g.id,
  ownerId: g.owner_id,
  labels: g.labels,
  ...(g.project_id !== null && {
    project: { id: g.project_id, ownerId: g.project_owner_id, visibility: g.project_visibility ?? "private" },
  }),
});

/** A user as the decision knows it: everybody is their own. */
export const userResource = (u: Pick<UserRow, "id">): StoredResource => ({ kind: "user", id: u.id, ownerId: u.id });

/** A policy as the decision knows it: of no project's, because only admins change what anybody may do. */
export const policyResource = (p: PolicyRow): StoredResource => ({ kind: "policy", id: p.id, labels: p.labels });

/** Whether the principal may. */
export const may = async (principal: Principal, action: Action, resource: Resource): Promise<boolean> =>
  (await decisionOn(principal, action, resource)).allow;

/** Throws 403 with the reason when the principal may not. */
export const demand = async (principal: Principal, action: Action, resource: Resource): Promise<void> => {
  const decision = await decisionOn(principal, action, resource);
  if (!decision.allow) throw new HubError("forbidden", `you may not do this: ${decision.reason}`);
};

/**
 * Throws unless the principal may: 403 with the reason where it may read the resource, else 404, as if it were not there.
 * Whoever may do the thing itself need not be allowed to read: a token may be for stopping alone.
 */
export const demandOf = async (
  principal: Principal,
  action: Action,
  resource: Resource,
  what: string,
): Promise<void> => {
  const decision = await decisionOn(principal, action, resource);
  if (decision.allow) return;
  if (action === "read" || !(await may(principal, "read", resource))) {
    await factsOf(principal);
    throw Hidden.at(what, decision.reason, resource);
  }
  throw new HubError("forbidden", `you may not do this: ${decision.reason}`);
};

/**
 * The 404 for what is not there. It costs what it would cost if the thing were there and hidden: nobody tells the one from
 * the other by the clock.
 */
export const absent = async (principal: Principal, what: string): Promise<HubError> => {
  await factsOf(principal);
  return notFound(what);
};

/** What a body names. Throws `unknown` where there is none, and in the same words where the principal may not read it. */
export const readable = async <T>(
  principal: Principal,
  found: T | undefined,
  resourceOf: (found: T) => Resource,
  unknown: HubError,
): Promise<T> => {
  const facts = await factsOf(principal);
  if (found === undefined) throw unknown;
  const resource = resourceOf(found);
  const decision = decide(principal, "read", resource, facts);
  if (!decision.allow) throw new Hidden(unknown, decision.reason, resource);
  return found;
};

/** Throws 404 unless the principal may read the resource; then 403 with the reason unless it may do the thing itself too. */
export const demandReadAnd = async (
  principal: Principal,
  action: Action,
  resource: Resource,
  what: string,
): Promise<void> => {
  await demandOf(principal, "read", resource, what);
  await demand(principal, action, resource);
};

/** Those of `items` that the principal may do one of `actions` to. */
export const allowed = async <T>(
  principal: Principal,
  actions: readonly Action[],
  items: readonly T[],
  resource: (item: T) => Resource,
): Promise<T[]> => {
  const facts = await factsOf(principal);
  return items.filter((item) => actions.some((action) => decide(principal, action, resource(item), facts).allow));
};

/** Tells what a principal may do with each of several things, all by the same facts (spec/03 5.7). */
export interface Abilities {
  /** With one thing. */
  of(resource: Exclude<Resource, HubResource>): Capabilities;
  /** With a list of things of a kind: those of one project, where the list is of one, else all. */
  ofList(of: keyof typeof LIST_ACTIONS, project?: ProjectResource): Capabilities;
}

export const abilitiesOf = async (principal: Principal): Promise<Abilities> =>
  abilities(principal, await factsOf(principal));

const abilities = (principal: Principal, facts: Facts): Abilities => {
  const can = (action: Action, resource: Resource): boolean => decide(principal, action, resource, facts).allow;
  return {
    of: (resource) => {
      const actions: readonly Action[] =
        resource.kind in ITEM_ACTIONS ? ITEM_ACTIONS[resource.kind as keyof typeof ITEM_ACTIONS] : [];
      return { actions: actions.filter((action) => can(action, resource)) };
    },
    // What a list shows is filtered: listing it is always allowed.
    ofList: (of, project) => ({
      actions: LIST_ACTIONS[of].filter(
        (action) => action === "list" || can(action, project && of === "agent" ? project : { kind: "hub", of }),
      ),
    }),
  };
};
