import { type HubError, invalidField, notFound, parseUuid, slugify, type Uuid } from "@rootstock/protocol";
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
import type { AgentResource, Principal, ProjectResource } from "../auth/index.ts";
import { demandedOf } from "./does.ts";
import { absent, agentResource, demandOf, projectResource } from "./rights.ts";
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

/** See {@link absent}: asks what {@link resourceOf} would. */
const absentProject = async (db: Db, { principal, params }: Asking): Promise<HubError> => {
  if (principal.kind === "runtimeBroker") await providerOf(db, projectIdOf(params.projectId), principal.id);
  return absent(principal, "Project");
};

/** The project of `:projectId` with its counts. Throws 404, or 403 when it may be read and not be treated as the route declares. */
export const projectOf = async (db: Db, call: Asking): Promise<ProjectView> => {
  const project = await projectById(db, projectIdOf(call.params.projectId));
  if (!project) throw await absentProject(db, call);
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
  if (!project) throw await absentProject(db, call);
  const resource = await resourceOf(db, call.principal, project);
  await demandOf(call.principal, demandedOf(call.does, "project"), resource, "Project");
  return { id: project.id, resource };
};

/**
 * The agent of `:agentId`: a UUID, or below a project its slug or UUID, soft-deleted ones included. Throws 404, or 403
 * when it may be read and not be treated as the route declares.
 */
export const agentOf = async (db: Db, call: Asking): Promise<AgentView> => {
  const { agentId = "", projectId } = call.params;
  const agent = await findAgentIn(db, agentId, projectId);
  if (!agent) throw await absent(call.principal, "Agent");
  await demandIn(call, agentResource(agent));
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
  return agentById(db, id);
};

/** Throws 404 unless the agent is of the project that the path names, if it names one; whatever else it may be refused for. */
export const demandIn = async ({ principal, params }: Asking, agent: AgentResource): Promise<void> => {
  if (params.projectId === undefined || projectIdOf(params.projectId) === agent.projectId) return;
  await demandOf(principal, "read", agent, "Agent");
  throw notFound("Agent");
};

/** A UUID in a filter or a body. Throws 400 `validation_error` for anything else; empty means absent. */
export const optionalUuid = (field: string, text: string | null | undefined): Uuid | undefined => {
  if (!text) return undefined;
  const id = parseUuid(text);
  if (id === undefined) throw invalidField(field, `${field} must be a UUID`);
  return id;
};
