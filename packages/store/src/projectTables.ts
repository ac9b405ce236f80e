import type { Uuid } from "@rootstock/protocol";
import type { Generated } from "kysely";
import type { DefaultJson, DefaultTime, Labels, Nullable, Visibility } from "./columnTypes.ts";

/** Rows of projects and of the runtime brokers that serve them. */

export interface SharedDir {
  readonly name: string;
  readonly read_only?: boolean;
  readonly in_workspace?: boolean;
}

export interface ProjectsTable {
  id: Uuid;
  name: string;
  slug: string;
  git_remote: Nullable<string>;
  default_runtime_broker_id: Nullable<Uuid>;
  labels: DefaultJson<Labels>;
  annotations: DefaultJson<Labels>;
  shared_dirs: DefaultJson<readonly SharedDir[]>;
  visibility: Generated<Visibility>;
  created_by: Nullable<Uuid>;
  owner_id: Nullable<Uuid>;
  created: DefaultTime;
  updated: DefaultTime;
}

export interface ProjectProvidersTable {
  id: Generated<Uuid>;
  project_id: Uuid;
  runtime_broker_id: Uuid;
  local_path: Nullable<string>;
  linked_by: Nullable<string>;
  linked_at: DefaultTime;
}

export interface FormerProjectsTable {
  id: Uuid;
  owner_id: Nullable<Uuid>;
  deleted_at: DefaultTime;
}

/** What slugs projects had that they have no longer. */
export interface FormerSlugsTable {
  slug: string;
  project_id: Uuid;
  owner_id: Nullable<Uuid>;
}

export interface ProjectTables {
  projects: ProjectsTable;
  former_projects: FormerProjectsTable;
  former_slugs: FormerSlugsTable;
  project_providers: ProjectProvidersTable;
}
