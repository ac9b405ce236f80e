import type { Http } from "../http.ts";

/** A project (spec/02 3.1); the fields that this client's users read. */
export interface Project {
  readonly id: string;
  readonly name: string;
  readonly slug: string;
  readonly gitRemote?: string;
  readonly defaultRuntimeBrokerId?: string;
  readonly agentCount?: number;
  readonly activeBrokerCount?: number;
  readonly visibility: string;
  readonly created: string;
  readonly updated: string;
}

export interface CreateProject {
  readonly name: string;
  /** Chosen by the caller: a second create with the same id answers the first one's project. */
  readonly id?: string | undefined;
  readonly slug?: string | undefined;
  readonly gitRemote?: string | undefined;
  readonly labels?: Readonly<Record<string, string>> | undefined;
}

export interface ListProjects {
  readonly name?: string | undefined;
  readonly slug?: string | undefined;
  readonly gitRemote?: string | undefined;
  readonly limit?: number | undefined;
}

/** Projects (spec/02 3.2). */
export class Projects {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  async list(filter: ListProjects = {}): Promise<readonly Project[]> {
    const query = { ...filter };
    const page = await this.#http.json<{ readonly projects: readonly Project[] | null }>("GET", "/api/v1/projects", {
      query,
    });
    return page.projects ?? [];
  }

  create(request: CreateProject, options: { readonly idempotencyKey?: string } = {}): Promise<Project> {
    const idempotencyKey = options.idempotencyKey ?? "auto";
    return this.#http.json("POST", "/api/v1/projects", { body: request, idempotencyKey });
  }

  get(id: string): Promise<Project> {
    return this.#http.json("GET", `/api/v1/projects/${encodeURIComponent(id)}`);
  }

  delete(id: string): Promise<void> {
    return this.#http.done("DELETE", `/api/v1/projects/${encodeURIComponent(id)}`);
  }
}
