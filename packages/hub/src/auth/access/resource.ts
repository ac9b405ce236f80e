import type { Uuid } from "@rootstock/protocol";
import type { Labels } from "@rootstock/store";
import type { ResourceKind } from "../vocabulary.ts";

/** What may be asked about, as the access decision knows it. */
export type Resource = HubResource | ProjectResource | AgentResource | RuntimeBrokerResource | StoredResource;

export type Visibility = "private" | "team" | "public";

/** The hub itself; with `of`, all things of a kind that belong to no project, and those that are not there yet. */
export interface HubResource {
  readonly kind: "hub";
  readonly of?: Exclude<ResourceKind, "hub">;
}

/** `create` and `stop_all` of a project are of the agents in it. */
export interface ProjectResource {
  readonly kind: "project";
  readonly id: Uuid;
  readonly ownerId: Uuid | null;
  /** Private unless it is known. */
  readonly visibility?: Visibility;
  readonly labels?: Labels;
  /** Runtime brokers that provide for it, where that matters. */
  readonly providers?: readonly Uuid[];
}

export interface AgentResource {
  readonly kind: "agent";
  readonly id: Uuid;
  readonly projectId: Uuid;
  readonly ownerId: Uuid | null;
  readonly ancestry: readonly string[];
  readonly runtimeBrokerId: Uuid | null;
  readonly labels?: Labels;
  /** The owner of its project, where it is known. */
  readonly projectOwnerId?: Uuid | null;
  /** Private unless it is known. */
  readonly visibility?: Visibility;
  /** Private unless it is known. */
  readonly projectVisibility?: Visibility;
}

export interface RuntimeBrokerResource {
  readonly kind: "runtimeBroker";
  readonly id: Uuid;
  readonly createdBy: Uuid | null;
  readonly autoProvide: boolean;
}

export type StoredKind = Exclude<ResourceKind, "hub" | "project" | "agent" | "runtimeBroker">;

/** Everything else that is kept: of a project, or of the hub as a whole. */
export interface StoredResource {
  readonly kind: StoredKind;
  /** Absent for what is not there yet. */
  readonly id?: Uuid;
  /** Of a user: the user. */
  readonly ownerId?: Uuid | null;
  readonly labels?: Labels;
  readonly project?: {
    readonly id: Uuid;
    readonly ownerId: Uuid | null;
    /** Private unless it is known. */
    readonly visibility?: Visibility;
  };
}

/** What of a resource the rules for all kinds look at. */
export interface Target {
  /** As policies name it. */
  readonly type: string;
  readonly id: Uuid | undefined;
  /** Absent for what belongs to no project: no project's policy or role reaches it. */
  readonly projectId: Uuid | undefined;
  readonly projectOwnerId: Uuid | null | undefined;
  readonly ownerId: Uuid | null | undefined;
  readonly ancestry: readonly string[];
  readonly labels: Labels;
  readonly visibility: Visibility;
  /** Values for containers: only whoever is named for them, or runs the project, may even read. */
  readonly guarded: boolean;
}

const NONE = {
  id: undefined,
  projectId: undefined,
  projectOwnerId: undefined,
  ownerId: undefined,
  ancestry: [],
  labels: {},
  guarded: false,
} as const;
const GUARDED: ReadonlySet<string> = new Set<ResourceKind>(["env", "secret", "runtime_broker"]);
/** What a project is asked about that is about the agents in it. */
const OF_AGENTS: ReadonlySet<string> = new Set(["create", "stop_all"]);

const typeOf = (kind: ResourceKind): string => (kind === "runtimeBroker" ? "broker" : kind);

const lesser = (a: Visibility = "private", b: Visibility = "private"): Visibility =>
  a === "private" || b === "private" ? "private" : a === "team" || b === "team" ? "team" : "public";

/**
 * The resource in the words of the rules. Visibility, which the original stores and never looks at (weak point 19): a
 * project or agent that is `private` is read by its owner and by members of the project; one that is `team` also by whom
 * a policy for the hub shows such (the seeded `hub-member-read-all`: all hub members); one that is `public` by everybody
 * who has signed in. An agent is never more visible than its project; what else belongs to a project is as visible as
 * that; what belongs to none is `team`. Values for containers are private whatever they belong to.
 */
export const targetOf = (action: string, resource: Resource): Target => {
  switch (resource.kind) {
    case "hub": {
      const type = typeOf(resource.of ?? "hub");
      return { ...NONE, type, visibility: "team", guarded: GUARDED.has(type) };
    }
    case "project": {
      const ofAgents = OF_AGENTS.has(action);
      return {
        ...NONE,
        type: ofAgents ? "agent" : "project",
        id: ofAgents ? undefined : resource.id,
        projectId: resource.id,
        projectOwnerId: resource.ownerId,
        ownerId: resource.ownerId,
        labels: (!ofAgents && resource.labels) || {},
        visibility: resource.visibility ?? "private",
      };
    }
    case "agent":
      return {
        ...NONE,
        type: "agent",
        id: resource.id,
        projectId: resource.projectId,
        projectOwnerId: resource.projectOwnerId,
        ownerId: resource.ownerId,
        ancestry: resource.ancestry,
        labels: resource.labels ?? {},
        visibility: lesser(resource.visibility, resource.projectVisibility),
      };
    case "runtimeBroker":
      return { ...NONE, type: "broker", id: resource.id, ownerId: resource.createdBy, visibility: "team" };
    default: {
      const guarded = GUARDED.has(resource.kind);
      const { project } = resource;
      return {
        ...NONE,
        type: resource.kind,
        id: resource.id,
        projectId: project?.id,
        projectOwnerId: project?.ownerId,
        ownerId: resource.ownerId,
        labels: resource.labels ?? {},
        visibility: guarded ? "private" : project ? (project.visibility ?? "private") : "team",
        guarded,
      };
    }
  }
};
