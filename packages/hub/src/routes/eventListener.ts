import type { Uuid } from "@rootstock/protocol";
import type { Clock } from "@rootstock/service";
import { type Db, readableIds } from "@rootstock/store";
import {
  decide,
  type Facts,
  factsOf,
  type Principal,
  type ProjectResource,
  principalId,
  readScope,
} from "../auth/index.ts";
import type { HubEvent } from "../bus/index.ts";
import { EVENT_SUBJECTS } from "./eventSubjects.ts";

/** What is read of a listener's sight is looked at anew after so long, whatever was told, in milliseconds. */
const STALE_MS = 30_000;

/** What somebody may read, as far as events ask. */
interface Sight {
  readonly facts: Facts;
  /** Equal for equal rights. */
  readonly stamp: string;
  readonly at: number;
  readonly projects: Set<Uuid>;
  /** Projects all of whose agents may be read. */
  readonly withAgents: Set<Uuid>;
  /** Agents of others. */
  readonly agents: ReadonlySet<Uuid>;
}

/**
 * What one caller hears of: admins everything; others no messages but those from or to them. An agent hears of its own
 * project; a person of what is theirs and of what they may read, which is read when it changes and not for each event.
 */
export class EventListener {
  readonly #deps: { readonly db: Db; readonly clock: Clock };
  #principal: Principal;
  #sight: Sight | undefined;
  #stale = false;
  /** Projects that were told of while their readers were being read. */
  readonly #told = new Map<Uuid, ProjectResource>();
  #looking = false;

  /** It hears nothing that others may read before the first look. */
  constructor(deps: { readonly db: Db; readonly clock: Clock }, principal: Principal) {
    this.#deps = deps;
    this.#principal = principal;
  }

  /** Reads what the caller, as it is now, may read, if that may have changed. One call at a time. */
  async look(principal: Principal): Promise<void> {
    this.#principal = principal;
    if (principal.kind !== "user" || principal.role === "admin") return;
    const { clock } = this.#deps;
    const facts = await factsOf(principal);
    const stamp = `${principal.role} ${facts.rights.stamp}`;
    const at = clock.elapsed();
    if (!this.#stale && this.#sight?.stamp === stamp && at - this.#sight.at < STALE_MS) return;
    this.#looking = true;
    this.#stale = false;
    try {
      const { projects, withAgents, agents } = await readableIds(this.#deps.db, {
        projects: readScope(principal, "projects", facts),
        agents: readScope(principal, "agents", facts),
      });
      this.#sight = { facts, stamp, at, projects: new Set(projects), withAgents: new Set(withAgents), agents };
      for (const project of this.#told.values()) this.#see(project);
    } catch (err) {
      this.#stale = true;
      throw err;
    } finally {
      this.#looking = false;
      this.#told.clear();
    }
  }

  /**
   * Others than before may read a project, or some agents. A project that is shown is heard of from now on, everything
   * else with the next look. Whether there is to be one.
   */
  sightChanged(project?: ProjectResource): boolean {
    const { kind } = this.#principal;
    if (kind !== "user" || this.#principal.role === "admin") return false;
    if (project && this.#looking) this.#told.set(project.id, project);
    const changed = project === undefined || this.#see(project) || this.#looking;
    this.#stale ||= changed;
    return changed;
  }

  /** Whether the caller may hear of the event now. */
  allows(event: HubEvent): boolean {
    const principal = this.#principal;
    if (principal.kind !== "user" && principal.kind !== "agent") return false;
    if (principal.kind === "user" && principal.role === "admin") return true;
    if (event.entity === "message") return event.parties?.includes(principal.id) === true;
    if (event.entity === "sight" || EVENT_SUBJECTS[event.entity].does.on === "hub") return false;
    if (principal.kind === "agent") return event.projectId === principal.projectId;
    const readable = (kind: "projects" | "withAgents" | "agents", id: Uuid | undefined): boolean =>
      id !== undefined && this.#sight?.[kind].has(id) === true;
    switch (event.entity) {
      case "agent":
        return (
          event.ownerId === principal.id || readable("withAgents", event.projectId) || readable("agents", event.agentId)
        );
      case "project":
        return event.ownerId === principal.id || readable("projects", event.entityId);
      case "provider":
        return readable("projects", event.projectId);
      case "runtime_broker":
        return event.projectId === undefined || readable("projects", event.projectId);
      case "user":
        return event.entityId === principal.id;
      default:
        return false;
    }
  }

  /**
   * Shows the project at once if the caller may read it. It is hidden by a look alone: what is told here may be older than
   * what was read, and who may read would miss something. Whether there is reason to look.
   */
  #see(project: ProjectResource): boolean {
    const sight = this.#sight;
    if (!sight) return true;
    if (!decide(this.#principal, "read", project, sight.facts).allow)
      return sight.projects.has(project.id) || sight.withAgents.has(project.id);
    sight.projects.add(project.id);
    if (project.ownerId === principalId(this.#principal)) sight.withAgents.add(project.id);
    return true;
  }
}
