import { BrokerApiError } from "../tunnel/errors.ts";
import type { Operation } from "./operation.ts";

/** Copies between a workspace and object storage: not offered by this runtime broker, and said so. */
export const workspaceOperations: readonly Operation[] = ["upload", "apply", "project-upload", "grove-upload"].map(
  (what) => ({
    method: "POST",
    path: `/api/v1/workspace/${what}`,
    run: async () => {
      throw new BrokerApiError("not_implemented", "this runtime broker has no object storage: workspaces stay here");
    },
  }),
);
