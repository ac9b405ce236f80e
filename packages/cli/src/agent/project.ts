import { type HubClient, HubResponseError, type Project } from "@rootstock/client";
import { parseUuid } from "@rootstock/protocol";
import { CliError } from "../exitCodes.ts";

/** The project of agents that name none; made at the first start. */
export const DEFAULT_PROJECT = "default";

const byId = async (hub: HubClient, id: string): Promise<Project | undefined> => {
  try {
    return await hub.projects.get(id);
  } catch (err) {
    if (err instanceof HubResponseError && err.status === 404) return undefined;
    throw err;
  }
};

/** By id, slug or name, in this order; a name has to be that of one project only. */
const find = async (hub: HubClient, project: string): Promise<Project | undefined> => {
  if (parseUuid(project)) return byId(hub, project);
  const [bySlug] = await hub.projects.list({ slug: project });
  if (bySlug) return bySlug;
  const byName = await hub.projects.list({ name: project });
  if (byName.length > 1) throw new CliError(`${byName.length} projects are named "${project}": give its id or slug`);
  return byName[0];
};

/**
 * The project to work in.
 * @throws CliError when it does not exist, unless it is the default one and `create` is set
 */
export const useProject = async (hub: HubClient, wanted: string | undefined, create: boolean): Promise<Project> => {
  const found = await find(hub, wanted || DEFAULT_PROJECT);
  if (found) return found;
  if (!wanted && create) return hub.projects.create({ name: DEFAULT_PROJECT, slug: DEFAULT_PROJECT });
  throw new CliError(
    wanted ? `there is no project "${wanted}"` : `there is no project yet; "rootstock agent start NAME" makes one`,
  );
};
