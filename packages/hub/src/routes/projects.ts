import { HubError, invalidField, normalizeGitRemote, notFound, slugify, type Uuid } from "@rootstock/protocol";
import {
  changeProject,
  countProjects,
  type Db,
  deleteProject,
  emptyProject,
  findRuntimeBroker,
  isForeignKeyViolation,
  isUniqueViolation,
  type Labels,
  listProjects,
  lockProject,
  type ProjectFilter,
  type ProjectView,
  projectById,
  projectPosition,
  providerOf,
  slugWasAnothers,
  transaction,
} from "@rootstock/store";
import { z } from "zod";
import type { Principal } from "../auth/index.ts";
import { capabilitiesJson, type ProjectJson, pageFields, projectJson, projectReply, some } from "../wire/index.ts";
import { authenticated, users } from "./access.ts";
import { createOnce, type ResourceDeps } from "./deps.ts";
import { labels, MAX_NAME, projectLabels, text, visibility } from "./fields.ts";
import { optionalUuid, plainProjectOf, projectOf } from "./lookup.ts";
import { pageQuery, readPage, totalOf } from "./pages.ts";
import { createProject, demandOwnId, type NewProject } from "./projectCreate.ts";
import { abilitiesOf, projectResource, readScope, withFacts } from "./rights.ts";
import { type Call, empty, json, type Reply, type Route, route } from "./route.ts";
import { NO_BODY } from "./shapes.ts";

/** Settings live among the annotations; a client that sends annotations without them does not mean to clear them. */
export const SETTINGS_PREFIX = "scion.io/";

const SIZES = { usual: 50, max: 500, first: 500 };

const listQuery = z.object({
  ...pageQuery,
  ownerId: z.string().optional(),
  visibility: z.string().optional(),
  gitRemote: z.string().max(2_048).optional(),
  brokerId: z.string().optional(),
  name: z.string().optional(),
  slug: z.string().optional(),
  scope: z.enum(["mine", "shared", "all", ""]).catch("").optional(),
  mine: z.string().optional(),
});

const listReply = z.object({
  ...pageFields,
  projects: z.array(projectReply),
  groves: z.array(projectReply).optional(),
  feedCursor: z.string(),
  _capabilities: capabilitiesJson,
});

const createBody = z.object({
  name: z.string().trim().min(1).max(MAX_NAME),
  id: text(64),
  slug: text(MAX_NAME),
  gitRemote: text(2048),
  workspaceMode: z.enum(["shared", "worktree-per-agent", "per-agent", ""]).nullish(),
  visibility,
  labels: projectLabels,
  githubToken: text(500),
});

const patchBody = z.object({
  name: text(MAX_NAME),
  slug: text(MAX_NAME),
  labels: projectLabels,
  annotations: labels,
  visibility,
  defaultRuntimeBrokerId: text(64),
});

export interface ProjectDeps extends ResourceDeps {
  /** Ends every agent of the project on its runtime broker, as far as they can be reached, before the rows go. */
  readonly deleteAgents: (projectId: Uuid, call: Pick<Call, "principal" | "traceparent">) => Promise<void>;
}

/** Projects (spec/02 3.2). */
export const projectRoutes = (deps: ProjectDeps): Route[] => [
  route({
    method: "GET",
    path: "/api/v1/projects",
    access: authenticated,
    does: { action: "list", on: "project" },
    accessTokens: true,
    query: listQuery,
    summary: "Projects that the caller may read",
    replies: { 200: listReply },
    handler: (call) => list(deps, call.principal, call.query),
  }),
  route({
    method: "POST",
    path: "/api/v1/projects",
    access: users,
    limited: "create",
    does: { action: "create", on: "project" },
    body: createBody,
    summary: "Creates a project",
    replies: { 200: projectReply, 201: projectReply },
    refuses: ["conflict", "unprocessable", "not_found"],
    handler: async (call) => {
      const input = newProject(call.principal, call.body);
      const principal = await withFacts(call.principal);
      return createOnce(deps, call, async (tx) => {
        const { project, created } = await createProject(tx, deps.random, input);
        if (!created) await demandOwnId(principal, project);
        return { status: created ? 201 : 200, body: await projectNow(tx, project.id) };
      });
    },
  }),
  route({
    method: "GET",
    path: "/api/v1/projects/:projectId",
    access: authenticated,
    does: { action: "read", on: "project" },
    accessTokens: true,
    summary: "One project",
    replies: { 200: projectReply },
    handler: async (call) => {
      const project = await projectOf(deps.db, call);
      const can = await abilitiesOf(call.principal);
      return json(200, projectJson(project, can.of(projectResource(project))));
    },
  }),
  route({
    method: "PATCH",
    path: "/api/v1/projects/:projectId",
    access: authenticated,
    does: { action: "update", on: "project" },
    body: patchBody,
    summary: "Changes a project",
    replies: { 200: projectReply },
    refuses: ["conflict"],
    handler: async (call) => {
      const { id } = await plainProjectOf(deps.db, call);
      await patch(deps.db, id, call.body);
      deps.changed();
      return json(200, await projectNow(deps.db, id));
    },
  }),
  route({
    method: "DELETE",
    path: "/api/v1/projects/:projectId",
    access: authenticated,
    does: { action: "delete", on: "project" },
    summary: "Deletes a project with its agents",
    replies: { 204: NO_BODY },
    refuses: ["conflict"],
    handler: async (call) => {
      const { id } = await plainProjectOf(deps.db, call);
      await deps.deleteAgents(id, call);
      await emptyProject(deps.db, id);
      const gone = await deleteProject(deps.db, id);
      if (!gone) throw notFound("Project");
      deps.changed();
      return empty();
    },
  }),
];

const projectNow = async (db: Db, id: Uuid): Promise<ProjectJson> => {
  const project = await projectById(db, id);
  if (!project) throw notFound("Project");
  return projectJson(project);
};

const list = async (
  { db, feedCursor }: ProjectDeps,
  principal: Principal,
  query: z.output<typeof listQuery>,
): Promise<Reply> => {
  const filters = {
    ownerId: optionalUuid("ownerId", query.ownerId),
    visibility: query.visibility || undefined,
    gitRemote: query.gitRemote ? normalizeGitRemote(query.gitRemote) : undefined,
    runtimeBrokerId: optionalUuid("brokerId", query.brokerId),
    name: query.name || undefined,
    slug: query.slug || undefined,
    share: shareOf(principal, query.scope ?? "", query.mine === "true"),
  };
  const filter: ProjectFilter = { ...filters, scope: await readScope(principal) };
  const cursor = feedCursor();
  const page = await readPage<ProjectView>({
    list: "projects",
    filters,
    given: query,
    sizes: SIZES,
    rows: (p) => listProjects(db, filter, p),
    position: (id) => projectPosition(db, filter.scope, id),
  });
  const totalCount = await totalOf(page, () => countProjects(db, filter));
  const can = await abilitiesOf(principal);
  const projects = page.rows.map((p) => projectJson(p, can.of(projectResource(p))));
  return json(200, {
    projects,
    ...some("groves", projects),
    ...some("nextCursor", page.nextCursor),
    totalCount,
    feedCursor: cursor,
    _capabilities: can.ofList("project"),
  });
};

const shareOf = (principal: Principal, scope: string, mine: boolean): ProjectFilter["share"] => {
  if (principal.kind !== "user" && principal.kind !== "agent") return undefined;
  if (scope === "shared") return { by: principal.id, which: "shared" };
  return scope === "mine" || mine ? { by: principal.id, which: "mine" } : undefined;
};

/** A create's body as the project that it asks for. Throws for what needs parts that this hub does not have. */
export const newProject = (principal: Principal, body: z.output<typeof createBody>): NewProject => {
  if (principal.kind !== "user") throw new HubError("forbidden", "only users create projects");
  if (body.githubToken)
    throw new HubError("unprocessable", "secrets are not configured on this hub: githubToken cannot be kept", {
      details: { field: "githubToken" },
    });
  const gitRemote = normalizeGitRemote(body.gitRemote ?? "");
  if (gitRemote !== "" && body.workspaceMode === "shared")
    throw new HubError("unprocessable", "workspaces on the hub are not configured: use another workspaceMode", {
      details: { field: "workspaceMode" },
    });
  const mode: Labels =
    gitRemote !== "" && body.workspaceMode === "worktree-per-agent"
      ? { "scion.dev/workspace-mode": body.workspaceMode }
      : {};
  return {
    id: optionalUuid("id", body.id),
    name: body.name,
    slug: body.slug,
    gitRemote,
    labels: { ...body.labels, ...mode },
    visibility: body.visibility ?? "private",
    ownerId: principal.id,
  };
};

const patch = async (db: Db, id: Uuid, body: z.output<typeof patchBody>): Promise<void> => {
  const slug = body.slug === undefined ? undefined : slugify(body.slug);
  if (slug === "") throw invalidField("slug", "a slug needs at least one letter or digit");
  const runtimeBrokerId = optionalUuid("defaultRuntimeBrokerId", body.defaultRuntimeBrokerId);
  try {
    await transaction(db, async (tx) => {
      const project = await lockProject(tx, id);
      if (!project) throw notFound("Project");
      if (runtimeBrokerId !== undefined) await demandServes(tx, id, runtimeBrokerId);
      const annotations = body.annotations && { ...settingsOf(project.annotations), ...body.annotations };
      await changeProject(tx, id, {
        ...some("name", body.name),
        ...some("slug", slug),
        ...(body.labels && { labels: JSON.stringify(body.labels) }),
        ...(annotations && { annotations: JSON.stringify(annotations) }),
        ...some("visibility", body.visibility),
        ...some("default_runtime_broker_id", runtimeBrokerId),
      });
      // Afterwards: the change has waited for whoever was about to give the slug up.
      const moves = slug !== undefined && slug !== project.slug;
      if (moves && (await slugWasAnothers(tx, { slug, projectId: id, ownerId: project.owner_id }))) throw slugTaken();
    });
  } catch (err) {
    if (isForeignKeyViolation(err)) throw invalidField("defaultRuntimeBrokerId", "there is no such runtime broker");
    if (!isUniqueViolation(err)) throw err;
    throw slugTaken(err);
  }
};

const slugTaken = (cause?: unknown): HubError =>
  new HubError("conflict", "this slug is taken", { details: { field: "slug" }, cause });

const settingsOf = (annotations: Labels): Labels =>
  Object.fromEntries(Object.entries(annotations).filter(([key]) => key.startsWith(SETTINGS_PREFIX)));

/** Throws 400 unless the runtime broker exists and serves the project: agents would be sent to one that may not run them. */
const demandServes = async (tx: Db, projectId: Uuid, runtimeBrokerId: Uuid): Promise<void> => {
  const runtimeBroker = await findRuntimeBroker(tx, runtimeBrokerId);
  if (runtimeBroker?.auto_provide) return;
  if (runtimeBroker && (await providerOf(tx, projectId, runtimeBrokerId))) return;
  throw invalidField(
    "defaultRuntimeBrokerId",
    runtimeBroker ? "this runtime broker does not serve the project" : "there is no such runtime broker",
  );
};
