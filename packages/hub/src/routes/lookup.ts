import { invalidField, notFound, parseUuid, slugify, type Uuid } from "@rootstock/protocol";
import {
  type AgentView,
  agentById,
  agentBySlug,
  type Db,
  type ProjectView,
  projectById,
  projectRow,
  providerOf,
} from "@rootstock/store";
import type { Principal, ProjectResource } from "../auth/index.ts";
import { demandedOf } from "./does.ts";
import { agentResource, demandOf, projectResource } from "./rights.ts";
import type { Asking } from "./route.ts";

/** Resources named in paths: found and readable, or 404 without a word on which of the two it is not. */

/** The id in a project's path segment, `<uuid>` or `<uuid>__<slug>` (spec/02 1.5). Throws 404. */
export const projectIdOf = (segment: string | undefined): Uuid => {
  const id = parseUuid((segment ?? "").split("__", 1)[0] ?? "");
  if (id === undefined) throw notFound("Project");
  return id;
};

/** The project as the access decision sees it: whether a runtime broker serves it is looked up only for one. */
const resourceOf = async (
  db: Db,
  principal: Principal,
  project: Parameters<typeof projectResource>[0],
): Promise<ProjectResource> => {
  if (principal.kind !== "runtimeBroker") return projectResource(project);
  const serves = await providerOf(db, project.id, principal.id);
  return projectResource(project, serves ? [principal.id] : []);
};

/** The project of `:projectId` with its counts. Throws 404, or 403 when it may be read and not be treated as the route declares. */
export const projectOf = async (db: Db, call: Asking): Promise<ProjectView> => {
  const project = await projectById(db, projectIdOf(call.params.projectId));
  if (!project) throw notFound("Project");
  const resource = await resourceOf(db, call.principal, project);
  await demandOf(call.principal, demandedOf(call.does, "project"), resource, "Project");
  return project;
};

/** The same without counts. */
export const plainProjectOf = async (
  db: Db,
  call: Asking,
): Promise<{ readonly id: Uuid; readonly resource: ProjectResource }> => {
  const project = await projectRow(db, projectIdOf(call.params.projectId));
  if (!project) throw notFound("Project");
  const resource = await resourceOf(db, call.principal, project);
  await demandOf(call.principal, demandedOf(call.does, "project"), resource, "Project");
  return { id: project.id, resource };
};

/**
 * The agent of `:agentId`: a UUID, or below a project its slug or UUID, soft-deleted ones included. Throws 404, or 403
 * when it may be read and not be treated as the route declares.
 */
export const agentOf = async (db: Db, call: Asking): Promise<AgentView> => {
  const agent = await findAgentIn(db, call.params.agentId ?? "", call.params.projectId);
  if (!agent) throw notFound("Agent");
  await demandOf(call.principal, demandedOf(call.does, "agent"), agentResource(agent), "Agent");
  return agent;
};

const findAgentIn = async (db: Db, name: string, project: string | undefined): Promise<AgentView | undefined> => {
  const id = parseUuid(name);
  if (project === undefined) return id === undefined ? undefined : agentById(db, id);
  const projectId = projectIdOf(project);
  if (id === undefined) {
    const slug = slugify(name);
    return slug === "" ? undefined : agentBySlug(db, projectId, slug);
  }
  const agent = await agentById(db, id);
  return agent?.project_id === projectId ? agent : undefined;
};

/** A UUID in a filter or a body. Throws 400 `validation_error` for anything else; empty means absent. */
export const optionalUuid = (field: string, text: string | null | undefined): Uuid | undefined => {
  if (!text) return undefined;
  const id = parseUuid(text);
  if (id === undefined) throw invalidField(field, `${field} must be a UUID`);
  return id;
};
