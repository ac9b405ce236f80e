import { projectDirectory } from "../agents/workspace.ts";
import { removeAll } from "../files.ts";
import type { Operation } from "./operation.ts";

/** `DELETE /api/v1/projects/{slug}` (spec/01 4.1): removes what its agents shared. Nothing there is success. */
export const deleteProject: Operation = {
  method: "DELETE",
  path: "/api/v1/projects/:slug",
  async run({ params }, { config }) {
    await removeAll(projectDirectory(config.stateDirectory, params.slug ?? ""));
    return { status: 204 };
  },
};
