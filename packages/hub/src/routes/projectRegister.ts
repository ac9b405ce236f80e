import { HubError, normalizeGitRemote, parseUuid, slugify } from "@rootstock/protocol";
import {
  type Db,
  findRuntimeBroker,
  findRuntimeBrokerByName,
  lockRegistration,
  type ProjectRow,
  projectById,
  projectBySlug,
  projectRow,
  projectsByGitRemote,
  type RuntimeBrokerRow,
} from "@rootstock/store";
import { z } from "zod";
import type { Principal } from "../auth/index.ts";
import { id, projectJson, projectReply, runtimeBrokerJson, runtimeBrokerReply, some } from "../wire/index.ts";
import { users } from "./access.ts";
import { createOnce, type ResourceDeps } from "./deps.ts";
import { MAX_NAME, projectLabels, text } from "./fields.ts";
import { optionalUuid } from "./lookup.ts";
import { createProject, demandOwnId } from "./projectCreate.ts";
import { demandLink, link, mayChooseFolder, mayLink, unknownRuntimeBroker } from "./providerLinks.ts";
import { projectResource, readScope, withFacts } from "./rights.ts";
import { type Route, route } from "./route.ts";

const registerBody = z.object({
  id: text(64),
  name: z.string().trim().min(1).max(MAX_NAME),
  gitRemote: text(2048),
  path: text(4096),
  brokerId: text(64),
  broker: z.object({ id: text(64), name: text(MAX_NAME) }).nullish(),
  labels: projectLabels,
  // Older clients' words for `id`.
  grove_id: text(64),
  groveId: text(64),
});
type RegisterBody = z.output<typeof registerBody>;

const registerReply = z.object({
  project: projectReply,
  grove: projectReply,
  broker: runtimeBrokerReply.optional(),
  created: z.boolean(),
  matches: z.array(z.object({ id, name: z.string(), slug: z.string() })).optional(),
});

interface Registered {
  readonly project: ProjectRow;
  readonly created: boolean;
  /** Several projects have this git remote: the client lets a person choose. */
  readonly matches: readonly ProjectRow[];
  readonly runtimeBroker: RuntimeBrokerRow | undefined;
}

/**
 * Finds or creates the project that a checkout belongs to (spec/02 3.3). Registering makes nobody an owner of what was
 * there, and no secret of a runtime broker is ever answered: a machine gets its own by joining.
 */
export const projectRegisterRoutes = (deps: ResourceDeps): Route[] => [
  route({
    method: "POST",
    path: "/api/v1/projects/register",
    access: users,
    limited: "create",
    does: { action: "create", on: "project" },
    body: registerBody,
    summary: "Finds or creates the project of a checkout",
    replies: { 200: registerReply },
    refuses: ["conflict", "not_found"],
    handler: async (call) => {
      const principal = await withFacts(call.principal);
      return createOnce(deps, call, async (tx) => {
        const done = await register(tx, deps, principal, call.body);
        const view = await projectById(tx, done.project.id);
        if (!view) throw new HubError("conflict", "the project was deleted meanwhile");
        const project = projectJson(view);
        const matches = done.matches.map(({ id, name, slug }) => ({ id, name, slug }));
        const body = {
          project,
          grove: project,
          ...(done.runtimeBroker && { broker: runtimeBrokerJson(done.runtimeBroker) }),
          created: done.created,
          ...some("matches", matches),
        };
        return { status: 200, body };
      });
    },
  }),
];

const register = async (tx: Db, deps: ResourceDeps, principal: Principal, body: RegisterBody): Promise<Registered> => {
  if (principal.kind !== "user") throw new HubError("forbidden", "only users register projects");
  const gitRemote = normalizeGitRemote(body.gitRemote ?? "");
  const id = optionalUuid("id", body.id ?? body.groveId ?? body.grove_id);
  await lockRegistration(tx, gitRemote || slugify(body.name));
  const known = await findKnown(tx, principal, id, gitRemote, body.name);
  const { project, created } = known.project
    ? { project: known.project, created: false }
    : await createProject(tx, deps.random, {
        id,
        name: body.name,
        slug: undefined,
        gitRemote,
        labels: body.labels ?? {},
        visibility: "private",
        ownerId: principal.id,
      });
  await demandOwnId(principal, project);
  const runtimeBroker = await runtimeBrokerToLink(tx, principal, body, project);
  if (runtimeBroker) {
    // The checkout that is registered may be on another machine, and its path then be anybody's folder here.
    const localPath = (await mayChooseFolder(principal, runtimeBroker)) ? body.path : undefined;
    await link(tx, principal, project.id, runtimeBroker, { localPath, keepPath: !created });
  }
  return { project, created, matches: known.matches, runtimeBroker };
};

/** By id; else by git remote where that names one project; else, without a remote, by slug. Only what the caller may read. */
const findKnown = async (
  tx: Db,
  principal: Principal,
  id: string | undefined,
  gitRemote: string,
  name: string,
): Promise<{ readonly project: ProjectRow | undefined; readonly matches: readonly ProjectRow[] }> => {
  const byId = id && (await projectRow(tx, id));
  if (byId) return { project: byId, matches: [] };
  const scope = await readScope(principal);
  if (gitRemote === "") return { project: await projectBySlug(tx, scope, slugify(name)), matches: [] };
  const same = await projectsByGitRemote(tx, scope, gitRemote);
  return same.length === 1 ? { project: same[0], matches: [] } : { project: undefined, matches: same };
};

/**
 * The runtime broker of the request. `brokerId` must exist and be the caller's to link. The older `broker` block comes
 * with every automatic registration of the CLI, whether the machine is one or not: it is ignored where it names none
 * that the caller may link.
 */
const runtimeBrokerToLink = async (
  tx: Db,
  principal: Principal,
  body: RegisterBody,
  project: ProjectRow,
): Promise<RuntimeBrokerRow | undefined> => {
  const resource = projectResource(project);
  if (body.brokerId) {
    const id = parseUuid(body.brokerId);
    const runtimeBroker = id && (await findRuntimeBroker(tx, id));
    if (!runtimeBroker) throw unknownRuntimeBroker(body.brokerId);
    await demandLink(principal, runtimeBroker, resource);
    return runtimeBroker;
  }
  const id = parseUuid(body.broker?.id ?? "");
  const name = body.broker?.name;
  const runtimeBroker =
    (id && (await findRuntimeBroker(tx, id))) || (name && (await findRuntimeBrokerByName(tx, name))) || undefined;
  return runtimeBroker && (await mayLink(principal, runtimeBroker, resource)) ? runtimeBroker : undefined;
};
