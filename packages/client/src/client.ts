import { type EventOptions, type HubEvent, readEvents } from "./events.ts";
import { Http, type HttpOptions } from "./http.ts";
import { Access, Audit } from "./resources/access.ts";
import { ProjectAgents } from "./resources/agents.ts";
import { Groups } from "./resources/groups.ts";
import { Login } from "./resources/login.ts";
import { Policies } from "./resources/policies.ts";
import { Projects } from "./resources/projects.ts";
import { RuntimeBrokers } from "./resources/runtimeBrokers.ts";
import { System } from "./resources/system.ts";
import { Traces } from "./resources/traces.ts";
import { Invites, Users } from "./resources/users.ts";

/**
 * A hub, seen by one user.
 * @example
 * const hub = new HubClient({ baseUrl: "http://127.0.0.1:8787", token });
 * const { agent } = await hub.agents(project.id).create({ name: "demo" });
 */
export class HubClient {
  readonly http: Http;
  readonly projects: Projects;
  readonly runtimeBrokers: RuntimeBrokers;
  readonly system: System;
  readonly login: Login;
  readonly traces: Traces;
  readonly users: Users;
  readonly invites: Invites;
  readonly groups: Groups;
  readonly policies: Policies;
  readonly access: Access;
  readonly audit: Audit;

  constructor(options: HttpOptions) {
    this.http = new Http(options);
    this.projects = new Projects(this.http);
    this.runtimeBrokers = new RuntimeBrokers(this.http);
    this.system = new System(this.http);
    this.login = new Login(this.http);
    this.traces = new Traces(this.http);
    this.users = new Users(this.http);
    this.invites = new Invites(this.http);
    this.groups = new Groups(this.http);
    this.policies = new Policies(this.http);
    this.access = new Access(this.http);
    this.audit = new Audit(this.http);
  }

  /** The agents of one project, given by its id. */
  agents(projectId: string): ProjectAgents {
    return new ProjectAgents(this.http, projectId);
  }

  /** Live events, resumed after every cut; see `readEvents`. */
  events(options: EventOptions): AsyncGenerator<HubEvent> {
    return readEvents(this.http, options);
  }
}
