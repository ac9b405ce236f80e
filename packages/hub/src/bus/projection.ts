import type { Uuid } from "@rootstock/protocol";
import {
  agentFacts,
  type ChangeRow,
  type Db,
  type MessageFacts,
  messageFacts,
  type ProjectFacts,
  projectFacts,
  type RuntimeBrokerFacts,
  runtimeBrokerFacts,
} from "@rootstock/store";
import type { EventEntity, HubEvent } from "./hubEvent.ts";
import { withGrove } from "./subjects.ts";

/** Turns rows of the change log into the events that clients know (spec/02 7.1, 7.2). */

type Values = Readonly<Record<string, unknown>>;

/** What the log does not hold, read for a whole batch. Whoever is missing here has gone since. */
interface Facts {
  readonly agents: ReadonlyMap<Uuid, Values>;
  readonly projects: ReadonlyMap<Uuid, ProjectFacts>;
  readonly runtimeBrokers: ReadonlyMap<Uuid, RuntimeBrokerFacts>;
  readonly messages: ReadonlyMap<Uuid, MessageFacts>;
}

interface Draft {
  readonly part?: string;
  /** The project whose people are told, where that is not the change's own. */
  readonly projectId?: Uuid | null;
  readonly subjects: readonly string[];
  readonly data: Values;
  readonly parties?: readonly Uuid[];
}

/** The events of these rows, in the rows' order. At most one query per entity. */
export const project = async (db: Db, rows: readonly ChangeRow[]): Promise<HubEvent[]> => {
  if (rows.length === 0) return [];
  const facts = await readFacts(db, rows);
  return rows.flatMap((row) => {
    const entity = ENTITIES[row.entity];
    if (!entity) return [];
    const drafts = entity.draft(row, facts);
    return drafts.map(
      (draft, i): HubEvent => ({
        subjects: draft.subjects.flatMap(withGrove),
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
};

const readFacts = async (db: Db, rows: readonly ChangeRow[]): Promise<Facts> => {
  const ids = (entity: string, want: (row: ChangeRow) => boolean, id = (row: ChangeRow): unknown => row.entityId) => [
    ...new Set(
      rows.flatMap((row) => {
        const found = row.entity === entity && want(row) ? id(row) : undefined;
        return typeof found === "string" ? [found] : [];
      }),
    ),
  ];
  const live = (row: ChangeRow) => row.op !== "D";
  const byId = <T extends { readonly id: Uuid }>(found: readonly T[]) => new Map(found.map((f) => [f.id, f]));
  const [agents, projects, runtimeBrokers, messages] = await Promise.all([
    agentFacts(
      db,
      ids("agent", (row) => live(row) && (isCut(row) || isRestored(row))),
    ),
    projectFacts(
      db,
      ids("project", (row) => live(row) && isCut(row)),
    ),
    runtimeBrokerFacts(db, [
      ...ids("runtime_broker", live),
      ...ids(
        "provider",
        () => true,
        (row) => row.payload.runtime_broker_id,
      ),
    ]),
    messageFacts(db, ids("message", live)),
  ]);
  return {
    agents: byId(agents),
    projects: byId(projects),
    runtimeBrokers: byId(runtimeBrokers),
    messages: byId(messages),
  };
};

/** Of a payload of more than 2 KiB the long texts are not kept. */
const isCut = (row: ChangeRow): boolean => row.payload.cut === true;
const isRestored = (row: ChangeRow): boolean =>
  row.op === "U" && row.changed.includes("deleted_at") && row.payload.deleted_at === undefined;

/** `values` without those that are absent, null, empty or zero: the clients leave them out as well. */
const present = (values: Values): Values =>
  Object.fromEntries(Object.entries(values).filter(([, v]) => v !== undefined && v !== null && v !== "" && v !== 0));

const isoTime = (value: unknown): string | undefined => {
  if (value instanceof Date) return value.toISOString();
  return typeof value === "string" ? new Date(value).toISOString() : undefined;
};

const projectOf = (projectId: Uuid | null): { readonly projectId?: Uuid } => (projectId ? { projectId } : {});

const both = (projectId: Uuid | null): Values => ({ projectId: projectId ?? "", groveId: projectId ?? "" });

const agentEvent = (row: ChangeRow, facts: Facts): readonly Draft[] => {
  const hidden = row.payload.deleted_at !== undefined;
  const about = (kind: string, data: Values): readonly Draft[] => [
    {
      subjects: [`agent.${row.entityId}.${kind}`, `project.${row.projectId}.agent.${kind}`],
      data: { agentId: row.entityId, ...both(row.projectId), ...data },
    },
  ];
  if (row.op === "D") return hidden ? [] : about("deleted", {});
  if (row.op === "U" && hidden) return row.changed.includes("deleted_at") ? about("deleted", {}) : [];
  const restored = isRestored(row);
  const v = restored || isCut(row) ? facts.agents.get(row.entityId) : row.payload;
  if (!v) return [];
  if (row.op === "I" || restored) return about("created", agentCreated(v));
  return about("status", agentStatus(v));
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

const projectEvent = (row: ChangeRow, facts: Facts): readonly Draft[] => {
  const kind = row.op === "I" ? "created" : row.op === "U" ? "updated" : "deleted";
  const v: { readonly name?: unknown; readonly slug?: unknown } | undefined =
    row.op !== "D" && isCut(row) ? facts.projects.get(row.entityId) : row.payload;
  if (!v) return [];
  const told = { created: { name: v.name, slug: v.slug }, updated: { name: v.name }, deleted: {} }[kind];
  return [{ subjects: [`project.${row.entityId}.${kind}`], data: { ...both(row.entityId), ...told } }];
};

const runtimeBrokerEvent = (row: ChangeRow, facts: Facts): readonly Draft[] => {
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
  subjects: [`project.${projectId}.broker.status`],
  data: {
    brokerId,
    ...present({ brokerName }),
    ...both(projectId),
    status: status === "offline" ? "offline" : "online",
  },
});

const providerEvent = (row: ChangeRow, facts: Facts): readonly Draft[] => {
  const brokerId = row.payload.runtime_broker_id;
  if (typeof brokerId !== "string") return [];
  const broker = facts.runtimeBrokers.get(brokerId);
  const status = row.op === "D" ? "offline" : (broker?.status ?? "offline");
  return [inProject(row.projectId, brokerId, broker?.name, status)];
};

const messageEvent = (row: ChangeRow, facts: Facts): readonly Draft[] => {
  const m = facts.messages.get(row.entityId);
  if (!m) return [];
  const parties = [m.senderId, m.recipientId, m.agentId].filter((id) => id !== null);
  if (row.op === "U") {
    if (!row.changed.includes("state") || row.payload.state !== "failed" || m.agentId === null) return [];
    const data = { id: m.id, agentId: m.agentId, ...both(m.projectId), recipient: m.recipient, error: m.error ?? "" };
    return [
      { subjects: [`agent.${m.agentId}.message.failed`, `project.${m.projectId}.message.failed`], data, parties },
    ];
  }
  const subjects = [
    ...(!m.toAgent && m.recipientId ? [`user.${m.recipientId}.message`, `project.${m.projectId}.user.message`] : []),
    ...(m.agentId ? [`agent.${m.agentId}.message`] : []),
  ];
  return subjects.length === 0 ? [] : [{ subjects, data: userMessage(m), parties }];
};

/** The payload UserMessage of spec/02 7.2. */
const userMessage = (m: MessageFacts): Values => ({
  id: m.id,
  ...both(m.projectId),
  sender: m.sender,
  senderId: m.senderId ?? "",
  recipient: m.recipient,
  recipientId: m.recipientId ?? "",
  msg: m.msg,
  type: m.type,
  ...(m.urgent && { urgent: true }),
  ...(m.broadcasted && { broadcasted: true }),
  agentId: m.agentId ?? "",
  createdAt: m.created.toISOString(),
});

/** How each entity of the log is told; what is not here is not told to clients. */
const ENTITIES: Readonly<
  Record<string, { readonly name: EventEntity; readonly draft: (row: ChangeRow, facts: Facts) => readonly Draft[] }>
> = {
  agent: { name: "agent", draft: agentEvent },
  project: { name: "project", draft: projectEvent },
  runtime_broker: { name: "runtime_broker", draft: runtimeBrokerEvent },
  provider: { name: "provider", draft: providerEvent },
  message: { name: "message", draft: messageEvent },
};
