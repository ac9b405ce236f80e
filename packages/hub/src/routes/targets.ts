import { HubError, parseUuid, slugify } from "@rootstock/protocol";
import { type Db, type DispatchTarget, targetById, targetBySlug, targetsBySlug } from "@rootstock/store";
import { targetResource } from "../actions/index.ts";
import type { TargetLookup } from "../dispatch/index.ts";
import { demandedOf } from "./does.ts";
import { demandIn, projectIdOf } from "./lookup.ts";
import { absent, allowed, demandOf } from "./rights.ts";
import type { Asking } from "./route.ts";

/**
 * The agent that a path names, with everything that decides how an operation reaches it. Below a project by slug or
 * UUID; elsewhere by UUID, or by a slug that only one live agent has (the CLI sends slugs there, spec/02 2.1). Throws 404
 * for what the caller may not read, 403 for what it may read and not treat as the route declares, 409 for an ambiguous slug.
 */
export const targetOf = async (
  db: Db,
  call: Asking,
  lookup: TargetLookup = inDatabase(db),
): Promise<DispatchTarget> => {
  const target = await find(db, call, lookup);
  if (!target) throw await absent(call.principal, "Agent");
  await demandIn(call, targetResource(target));
  await demandOf(call.principal, demandedOf(call.does, "agent"), targetResource(target), "Agent");
  return target;
};

const inDatabase = (db: Db): TargetLookup => ({
  byId: (id) => targetById(db, id),
  bySlug: (projectId, slug) => targetBySlug(db, { projectId, slug }),
});

/**
 * As {@link targetOf}, of the targets that `remembered` knows: undefined for everything else, what the caller may not do
 * included. It is for whoever can find out later that the target has changed, and then asks `targetOf`.
 */
export const rememberedTargetOf = async (
  db: Db,
  call: Asking,
  remembered: TargetLookup,
): Promise<DispatchTarget | undefined> => {
  // A slug without a project is looked up among all, and never remembered.
  if (call.params.projectId === undefined && parseUuid(call.params.agentId ?? "") === undefined) return undefined;
  try {
    return await targetOf(db, call, remembered);
  } catch (err) {
    if (err instanceof HubError) return undefined;
    throw err;
  }
};

const find = async (db: Db, call: Asking, lookup: TargetLookup): Promise<DispatchTarget | undefined> => {
  const name = call.params.agentId ?? "";
  const id = parseUuid(name);
  const { projectId: project } = call.params;
  if (project !== undefined) {
    const projectId = projectIdOf(project);
    if (id === undefined) return lookup.bySlug(projectId, slugify(name));
    return lookup.byId(id);
  }
  if (id !== undefined) return lookup.byId(id);
  const action = demandedOf(call.does, "agent");
  const among = await targetsBySlug(db, slugify(name));
  const named = await allowed(call.principal, ["read", action], among, targetResource);
  if (named.length > 1)
    throw new HubError("conflict", `several agents are named ${name}; name the project or use the agent's id`);
  const [only] = named;
  // Refused for what it is: nobody else is told that there are others of the name.
  return only ?? among[0];
};
