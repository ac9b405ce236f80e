import { invalidField, notFound } from "@rootstock/protocol";
import { changeProject, type Db, lockProject, type SharedDir, transaction } from "@rootstock/store";
import { z } from "zod";
import { sharedDirJson } from "../wire/index.ts";
import { authenticated, users } from "./access.ts";
import { createOnce, type ResourceDeps } from "./deps.ts";
import { flag } from "./fields.ts";
import { plainProjectOf, projectOf } from "./lookup.ts";
import { empty, json, type Route, route } from "./route.ts";
import { NO_BODY } from "./shapes.ts";

const sharedDirBody = z.object({
  name: z
    .string()
    .max(63)
    .regex(/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/, "lower-case letters, digits and inner hyphens only"),
  read_only: flag,
  in_workspace: flag,
});

/** Folders that the agents of a project share (spec/02 3.7). Their files are the runtime brokers'. */
export const sharedDirRoutes = (deps: ResourceDeps): Route[] => [
  route({
    method: "GET",
    path: "/api/v1/projects/:projectId/shared-dirs",
    access: authenticated,
    does: { action: "read", on: "project" },
    summary: "Folders that the agents of a project share",
    replies: { 200: z.object({ sharedDirs: z.array(sharedDirJson) }) },
    handler: async (call) => json(200, { sharedDirs: (await projectOf(deps.db, call)).shared_dirs }),
  }),
  route({
    method: "POST",
    path: "/api/v1/projects/:projectId/shared-dirs",
    access: users,
    does: { action: "update", on: "project" },
    body: sharedDirBody,
    summary: "Adds a shared folder",
    replies: { 201: sharedDirJson },
    handler: async (call) => {
      const { id } = await plainProjectOf(deps.db, call);
      const { name, read_only, in_workspace } = call.body;
      const added: SharedDir = { name, ...(read_only && { read_only }), ...(in_workspace && { in_workspace }) };
      return createOnce(deps, call, async (tx) => {
        await change(tx, id, (dirs) => {
          if (dirs.some((d) => d.name === name)) throw invalidField("name", `shared directory ${name} already exists`);
          return [...dirs, added];
        });
        return { status: 201, body: added };
      });
    },
  }),
  route({
    method: "DELETE",
    path: "/api/v1/projects/:projectId/shared-dirs/:name",
    access: users,
    does: { action: "update", on: "project" },
    summary: "Removes a shared folder from the project",
    replies: { 204: NO_BODY },
    handler: async (call) => {
      const { id } = await plainProjectOf(deps.db, call);
      await transaction(deps.db, (tx) =>
        change(tx, id, (dirs) => {
          const kept = dirs.filter((d) => d.name !== call.params.name);
          if (kept.length === dirs.length) throw notFound("Shared directory");
          return kept;
        }),
      );
      deps.changed();
      return empty();
    },
  }),
];

const change = async (
  tx: Db,
  projectId: string,
  next: (dirs: readonly SharedDir[]) => readonly SharedDir[],
): Promise<void> => {
  const project = await lockProject(tx, projectId);
  if (!project) throw notFound("Project");
  await changeProject(tx, projectId, { shared_dirs: JSON.stringify(next(project.shared_dirs)) });
};
