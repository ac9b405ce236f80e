import type { Uuid } from "@rootstock/protocol";
import {
  agentFacts,
  type ChangeRow,
  type Db,
  type MessageFacts,
  messageFacts,
  projectFacts,
  runtimeBrokerFacts,
} from "@rootstock/store";
import {
  accessEvent,
  allowListEvent,
  credentialEvent,
  inviteEvent,
  maintenanceEvent,
  sightEvent,
  userEvent,
} from "./adminEvents.ts";
import { type Draft, Facts, type MakeDrafts, present, type Values } from "./drafts.ts";
import type { EventEntity, HubEvent } from "./hubEvent.ts";
import type { Wanted } from "./interest.ts";
import { withGrove } from "./subjects.ts";

/** Turns rows of the change log into the events that clients know (spec/02 7.1, 7.2). */

/**
 * The events of some rows, in the rows' order. What nobody wants is neither read nor made; who wants what may change
 * until the moment in which `events` is called.
 */
export class Projection {
  readonly #rows: readonly ChangeRow[];
  readonly #facts = new Facts();

  constructor(rows: readonly ChangeRow[]) {
    this.#rows = rows;
  }

  /** What is still to be read for what is wanted now. */
  missing(wanted: Wanted): Needs {
    const needs = new Needs(this.#facts);
    for (const row of this.#rows) ENTITIES[row.entity]?.need(row, needs, wanted);
    return needs;
  }

  /** To be called when nothing is missing: what was not read is taken to be gone. */
  events(wanted: Wanted): HubEvent[] {
    return this.#rows.flatMap((row) => {
      const entity = ENTITIES[row.entity];
      if (!entity) return [];
      const drafts = entity.draft(row, this.#facts, wanted);
      return drafts.map(
        (draft, i): HubEvent => ({
          subjects: draft.subjects,
          data: draft.data,
          entity: entity.name,
          entityId: row.entityId,
          ...projectOf(draft.projectId ?? row.projectId),
          ...(row.agentId && { agentId: row.agentId }),
          ...(row.ownerId && row.entity !== "message" && { ownerId: row.ownerId }),
          ...(draft.parties && { parties: draft.parties }),
          origin: {
            changeId: row.id,
            tx: BigInt(row.tx),
            part: draft.part ?? "",
            lastOfChange: i === drafts.length - 1,
          },
        }),
      );
    });
  }
}

/** What is to be read for some rows and has not been. */
export class Needs {
  readonly agents = new Set<Uuid>();
  readonly projects = new Set<Uuid>();
  readonly runtimeBrokers = new Set<Uuid>();
  readonly messages = new Set<Uuid>();
  readonly #facts: Facts;

  constructor(facts: Facts) {
    this.#facts = facts;
  }

  /** Asks for something unless it was read, or is known to be gone. */
  add(kind: keyof Facts, id: unknown): void {
    if (typeof id === "string" && !this.#facts[kind].has(id)) this[kind].add(id);
  }

  get isEmpty(): boolean {
    return this.agents.size + this.projects.size + this.runtimeBrokers.size + this.messages.size === 0;
  }

  /** At most one query per entity. */
  async read(db: Db): Promise<void> {
    const { agents, projects, runtimeBrokers, messages } = this.#facts;
    await Promise.all([
      fill(agents, this.agents, (ids) => agentFacts(db, ids)),
      fill(projects, this.projects, (ids) => projectFacts(db, ids)),
      fill(runtimeBrokers, this.runtimeBrokers, (ids) => runtimeBrokerFacts(db, ids)),
      fill(messages, this.messages, (ids) => messageFacts(db, ids)),
    ]);
  }
}

const fill = async <T extends { readonly id: Uuid }>(
  facts: Map<Uuid, T | undefined>,
  wanted: ReadonlySet<Uuid>,
  read: (ids: readonly Uuid[]) => Promise<readonly T[]>,
): Promise<void> => {
  const found = await read([...wanted]);
  for (const id of wanted) facts.set(id, undefined);
  for (const fact of found) facts.set(fact.id, fact);
};

const isRestored = (row: ChangeRow): boolean =>
  row.op === "U" && row.changed.includes("deleted_at") && row.payload.deleted_at === undefined;

const isoTime = (value: unknown): string | undefined => {
  if (value instanceof Date) return value.toISOString();
  return typeof value === "string" ? new Date(value).toISOString() : undefined;
};

const projectOf = (projectId: Uuid | null): { readonly projectId?: Uuid } => (projectId ? { projectId } : {});

const both = (projectId: Uuid | null): Values => ({ projectId: projectId ?? "", groveId: projectId ?? "" });

/** From what is cheap to look at alone: most of these events nobody wants. */
const agentKind = (row: ChangeRow): "created" | "status" | "deleted" => {
  if (row.op === "I") return "created";
  if (row.op === "D") return "deleted";
  if (!row.changed.includes("deleted_at")) return "status";
  return isHidden(row) ? "deleted" : "created";
};

const isHidden = (row: ChangeRow): boolean => row.payload.deleted_at !== undefined;
const isHeldElsewhere = (row: ChangeRow): boolean => row.op !== "D" && (row.cut || isRestored(row));

const agentSubjects = (row: ChangeRow, kind: string): readonly string[] => [
  `agent.${row.entityId}.${kind}`,
  ...withGrove(`project.${row.projectId}.agent.${kind}`),
];

const agentNeed: Need = (row, needs, wanted) => {
  if (!isHeldElsewhere(row)) return;
  const kind = agentKind(row);
  if (kind !== "deleted" && wanted(agentSubjects(row, kind))) needs.add("agents", row.entityId);
};

const agentEvent: MakeDrafts = (row, facts, wanted) => {
  const kind = agentKind(row);
  const subjects = agentSubjects(row, kind);
  if (!wanted(subjects)) return [];
  // What was told as deleted is not told of again.
  if (isHidden(row) && (row.op === "D" || kind === "status")) return [];
  const v = kind !== "deleted" && isHeldElsewhere(row) ? facts.agents.get(row.entityId) : row.payload;
  if (!v) return [];
  const told = kind === "created" ? agentCreated(v) : kind === "status" ? agentStatus(v) : {};
  return [{ subjects, data: { agentId: row.entityId, ...both(row.projectId), ...told } }];
};

const agentCreated = (v: Values): Values => ({
  name: v.name,
  slug: v.slug,
  ...present({
    template: v.template,
    phase: v.phase,
    activity: v.activity,
    containerStatus: v.container_status,
    image: v.image,
    runtime: v.runtime,
    runtimeBrokerId: v.runtime_broker_id,
    createdBy: v.created_by,
    visibility: v.visibility,
    taskSummary: v.task_summary,
    created: isoTime(v.created),
  }),
});

const agentStatus = (v: Values): Values => {
  const detail = present({
    toolName: v.tool_name,
    message: v.message,
    taskSummary: v.task_summary,
    currentTurns: v.current_turns,
    currentModelCalls: v.current_model_calls,
    startedAt: isoTime(v.started_at),
  });
  return present({
    phase: v.phase,
    activity: v.activity,
    ...(Object.keys(detail).length > 0 && { detail }),
    containerStatus: v.container_status,
  });
};

const projectSubjects = (row: ChangeRow): readonly string[] =>
  withGrove(`project.${row.entityId}.${PROJECT_KINDS[row.op]}`);
const PROJECT_KINDS = { I: "created", U: "updated", D: "deleted" } as const;

const projectNeed: Need = (row, needs, wanted) => {
  if (row.op !== "D" && row.cut && wanted(projectSubjects(row))) needs.add("projects", row.entityId);
};

const projectEvent: MakeDrafts = (row, facts, wanted) => {
  const subjects = projectSubjects(row);
  if (!wanted(subjects)) return [];
  const v: { readonly name?: unknown; readonly slug?: unknown } | undefined =
    row.op !== "D" && row.cut ? facts.projects.get(row.entityId) : row.payload;
  if (!v) return [];
  const told = { I: { name: v.name, slug: v.slug }, U: { name: v.name }, D: {} }[row.op];
  return [{ subjects, data: { ...both(row.entityId), ...told } }];
};

/** Few, and the projects among whose subjects they are must be read to know them: always made. */
const runtimeBrokerNeed: Need = (row, needs) => {
  if (row.op !== "D") needs.add("runtimeBrokers", row.entityId);
};

const runtimeBrokerEvent: MakeDrafts = (row, facts) => {
  const status = row.op === "D" ? "offline" : String(row.payload.status ?? "offline");
  const own: Draft = {
    subjects: [`broker.${row.entityId}.status`],
    data: { brokerId: row.entityId, status },
  };
  if (row.op !== "U" || !row.changed.includes("status")) return [own];
  const broker = facts.runtimeBrokers.get(row.entityId);
  // Each project's event has the project as its part, in order: a provider added between two reads shifts nothing.
  return [
    own,
    ...(broker?.projects ?? []).map((projectId) => inProject(projectId, row.entityId, row.payload.name, status)),
  ];
};

const inProject = (projectId: Uuid | null, brokerId: Uuid, brokerName: unknown, status: string): Draft => ({
  part: projectId ?? "",
  projectId,
  subjects: withGrove(`project.${projectId}.broker.status`),
  data: {
    brokerId,
    ...present({ brokerName }),
    ...both(projectId),
    status: status === "offline" ? "offline" : "online",
  },
});

const providerNeed: Need = (row, needs) => needs.add("runtimeBrokers", row.payload.runtime_broker_id);

const providerEvent: MakeDrafts = (row, facts) => {
  const brokerId = row.payload.runtime_broker_id;
  if (typeof brokerId !== "string") return [];
  const broker = facts.runtimeBrokers.get(brokerId);
  const status = row.op === "D" ? "offline" : (broker?.status ?? "offline");
  return [inProject(row.projectId, brokerId, broker?.name, status)];
};

/** Told by the log alone, so that a text is read only when somebody is to be told it. Empty: no event. */
const messageSubjects = (row: ChangeRow): readonly string[] => {
  if (row.op === "D") return [];
  const { agentId, ownerId, projectId } = row;
  if (row.op === "U")
    return agentId !== null && row.changed.includes("state") && row.payload.state === "failed"
      ? [`agent.${agentId}.message.failed`, ...withGrove(`project.${projectId}.message.failed`)]
      : [];
  // The log names an owner only of a message to a person.
  return [
    ...(ownerId ? [`user.${ownerId}.message`, ...withGrove(`project.${projectId}.user.message`)] : []),
    ...(agentId ? [`agent.${agentId}.message`] : []),
  ];
};

const messageNeed: Need = (row, needs, wanted) => {
  const subjects = messageSubjects(row);
  if (subjects.length > 0 && wanted(subjects)) needs.add("messages", row.entityId);
};

const messageEvent: MakeDrafts = (row, facts, wanted) => {
  const subjects = messageSubjects(row);
  if (subjects.length === 0 || !wanted(subjects)) return [];
  const m = facts.messages.get(row.entityId);
  if (!m) return [];
  const parties = [m.senderId, m.recipientId, m.agentId].filter((id) => id !== null);
  const data =
    row.op === "U"
      ? { id: m.id, agentId: m.agentId ?? "", ...both(m.projectId), recipient: m.recipient, error: m.error ?? "" }
      : userMessage(m);
  return [{ subjects, data, parties }];
};

/** The payload UserMessage of spec/02 7.2. */
const userMessage = (m: MessageFacts): Values => ({
  id: m.id,
  ...both(m.projectId),
  sender: m.sender,
  senderId: m.senderId ?? m.outsideSenderId ?? "",
  recipient: m.recipient,
  recipientId: m.recipientId ?? "",
  msg: m.msg,
  type: m.type,
  ...(m.urgent && { urgent: true }),
  ...(m.broadcasted && { broadcasted: true }),
  agentId: m.agentId ?? "",
  createdAt: m.created.toISOString(),
});

/** Says what is to be read for a row. */
type Need = (row: ChangeRow, needs: Needs, wanted: Wanted) => void;

interface Entity {
  readonly name: EventEntity;
  readonly need: Need;
  readonly draft: MakeDrafts;
}

const ACCESS: Entity = { name: "access", need: () => {}, draft: accessEvent };

/** How each entity of the log is told; what is not here is not told to clients. */
const ENTITIES: Readonly<Record<string, Entity>> = {
  agent: { name: "agent", need: agentNeed, draft: agentEvent },
  project: { name: "project", need: projectNeed, draft: projectEvent },
  runtime_broker: { name: "runtime_broker", need: runtimeBrokerNeed, draft: runtimeBrokerEvent },
  provider: { name: "provider", need: providerNeed, draft: providerEvent },
  message: { name: "message", need: messageNeed, draft: messageEvent },
  user: { name: "user", need: () => {}, draft: userEvent },
  allow_list: { name: "allow_list", need: () => {}, draft: allowListEvent },
  maintenance: { name: "maintenance", need: () => {}, draft: maintenanceEvent },
  invite: { name: "invite", need: () => {}, draft: inviteEvent },
  group: ACCESS,
  group_membership: ACCESS,
  policy: ACCESS,
  policy_binding: ACCESS,
  project_access: { name: "sight", need: () => {}, draft: sightEvent("project") },
  agent_access: { name: "sight", need: () => {}, draft: sightEvent("agent") },
  credential: { name: "credential", need: () => {}, draft: credentialEvent },
};
