import { type Phase, TERMINAL_ACTIVITIES, type Uuid } from "@rootstock/protocol";
import { type RawBuilder, type Selectable, sql } from "kysely";
import { audited } from "../audit.ts";
import type { Db } from "../database.ts";
import type { AgentsTable, StoredConfig } from "../tables.ts";
import { nextTokenVersion } from "./authResets.ts";
import type { Claim } from "./heldSockets.ts";

/**
 * What operations do to an agent's row. Each raises `state_version`. What is written with the end of an operation is fenced
 * by its claim; what is written before that, by the socket that it goes over.
 */

export type AgentRow = Selectable<AgentsTable>;

/** The socket that an operation goes over, and who holds it. */
export interface OperationSocket extends Claim {
  readonly runtimeBrokerId: Uuid;
}

/** The part `fence` of a statement: a row while the socket is the runtime broker's own, which it then stays until the commit. */
const fence = (socket: OperationSocket) => sql`
    fence as materialized (
      select 1 from runtime_brokers where id = ${socket.runtimeBrokerId} and connected_hub_id = ${socket.instanceId}
        and connected_session_id = ${socket.sessionId} for share)`;

export interface NewAgent {
  readonly id: Uuid;
  readonly projectId: Uuid;
  readonly slug: string;
  readonly template: string;
  readonly runtimeBrokerId: Uuid;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly appliedConfig: StoredConfig;
  readonly image: string | null;
  readonly createdBy: Uuid;
  readonly ownerId: Uuid;
  readonly ancestry: readonly Uuid[];
}

/** A new agent in phase `created`. Its name is its slug: the CLI's sync relies on that (spec/02 1.5). */
export const insertAgent = (db: Db, a: NewAgent): Promise<AgentRow> =>
  audited(db, (tx) =>
    tx
      .insertInto("agents")
      .values({
        id: a.id,
        project_id: a.projectId,
        slug: a.slug,
        name: a.slug,
        template: a.template,
        runtime_broker_id: a.runtimeBrokerId,
        labels: JSON.stringify(a.labels),
        annotations: JSON.stringify(a.annotations),
        applied_config: JSON.stringify(a.appliedConfig),
        image: a.image,
        created_by: a.createdBy,
        owner_id: a.ownerId,
        ancestry: [...a.ancestry],
        launching: true,
      })
      .returningAll()
      .executeTakeFirstOrThrow(),
  );

/** The agent's row, deleted or not; undefined when there is none. */
export const findAgent = (db: Db, id: Uuid): Promise<AgentRow | undefined> =>
  db.selectFrom("agents").selectAll().where("id", "=", id).executeTakeFirst();

/** Gives the agent another task than it was created with, for a start in place. What else it is configured with stays. */
export const setTask = async (
  db: Db,
  id: Uuid,
  p: { readonly task: string; readonly attach?: boolean | undefined },
): Promise<void> => {
  const config = JSON.stringify({ task: p.task, ...(p.attach && { attach: true }) });
  await db
    .updateTable("agents")
    .set({
      applied_config: sql<string>`applied_config || ${config}::jsonb`,
      state_version: sql<number>`state_version + 1`,
      updated: sql<Date>`now()`,
    })
    .where("id", "=", id)
    .execute();
};

/** Gives an agent whose runtime broker is gone another one, which also gets what waits for it. */
export const settleAgent = async (
  db: Db,
  { agentId, runtimeBrokerId }: { readonly agentId: Uuid; readonly runtimeBrokerId: Uuid },
): Promise<void> => {
  await sql`
    with settled as (
      update agents set runtime_broker_id = ${runtimeBrokerId}, state_version = state_version + 1, updated = now()
       where id = ${agentId} and runtime_broker_id is null returning id)
    update messages m set runtime_broker_id = ${runtimeBrokerId} from settled
     where m.agent_id = settled.id and m.state = 'pending'`.execute(db);
};

/** What became of the opening of a run. */
export interface OpenedRun {
  /** False, and nothing is written: the socket is not the runtime broker's own any more. */
  readonly held: boolean;
  /** Undefined when the run is open already (a repeated attempt) or the agent is deleted. */
  readonly agent: AgentRow | undefined;
}

/**
 * Opens a new run before the runtime broker is asked, so that a report of the container that overtakes the answer
 * belongs to it. What the run before left is cleared: a kept activity would look like readiness.
 */
export const beginRun = async (
  db: Db,
  p: {
    readonly agentId: Uuid;
    readonly runId: Uuid;
    readonly phase: "provisioning" | "starting";
    readonly socket: OperationSocket;
  },
): Promise<OpenedRun> => {
  const { rows } = await sql<AgentRow & { readonly held: boolean }>`
    with ${fence(p.socket)},
    opened as (
      update agents set run_id = ${p.runId}, launching = true, phase = ${p.phase}, activity = null, tool_name = null,
          message = null, stalled_from_activity = null, exit_code = null, running_since = null, ready_at = null,
          started_at = null, state_version = state_version + 1, updated = now()
       where exists (select from fence) and id = ${p.agentId} and run_id is distinct from ${p.runId}
         and deleted_at is null
      returning *)
    select opened.*, exists (select from fence) as held from (select 1) as one left join opened on true`.execute(db);
  const [row] = rows;
  if (!row) throw new Error("a left join without a row");
  const { held, ...agent } = row;
  return { held, agent: agent.id === null ? undefined : agent };
};

/** What a runtime broker says of an agent in its answers, already narrowed to what the hub keeps (spec/01 4.1). */
export interface LaunchFacts {
  readonly phase: Phase;
  readonly activity?: string;
  readonly containerStatus: string | null;
  readonly runtimeState?: string;
  readonly template?: string;
  readonly image?: string;
  readonly runtime?: string;
  readonly harnessConfig?: string;
  readonly harnessAuth?: string;
  readonly profile?: string;
}

/**
 * Records that the run was launched. A stop or crash that the container reported meanwhile stands, and a phase never
 * goes back: the answer may be older than the report.
 */
export const recordLaunched = (
  db: Db,
  p: { readonly agentId: Uuid; readonly runId: Uuid | null; readonly facts: LaunchFacts },
): Promise<AgentRow | undefined> => {
  const f = p.facts;
  const config = JSON.stringify({
    ...(f.harnessConfig && { harnessConfig: f.harnessConfig }),
    ...(f.harnessAuth && { harnessAuth: f.harnessAuth }),
    ...(f.profile && { profile: f.profile }),
    ...(f.image && { image: f.image }),
  });
  const rank = (phase: ReturnType<typeof sql>) =>
    sql`array_position(array['created','provisioning','cloning','starting','running'], ${phase})`;
  const goesUp = sql`(phase in ('created','provisioning','cloning','starting','running')
    and ${rank(sql`${f.phase}::text`)} > ${rank(sql`phase`)})`;
  const becomesRunning = sql<boolean>`(${goesUp} and ${f.phase}::text = 'running')`;
  return db
    .updateTable("agents")
    .set({
      phase: sql<Phase>`case when ${goesUp} or phase = 'suspended' then ${f.phase}::text else phase end`,
      running_since: sql<Date | null>`case when ${becomesRunning} then coalesce(running_since, now()) else running_since end`,
      activity: sql<string | null>`coalesce(activity, ${f.activity ?? null}::text)`,
      container_status: sql<
        string | null
      >`case when phase in ('stopped','error') then container_status else ${f.containerStatus}::text end`,
      runtime_state: sql<string | null>`coalesce(${f.runtimeState ?? null}::text, runtime_state)`,
      template: sql<string>`coalesce(${f.template ?? null}::text, template)`,
      image: sql<string | null>`coalesce(${f.image ?? null}::text, image)`,
      runtime: sql<string | null>`coalesce(${f.runtime ?? null}::text, runtime)`,
      applied_config: sql<string>`applied_config || ${config}::jsonb`,
      launching: false,
      state_version: sql<number>`state_version + 1`,
      updated: sql<Date>`now()`,
    })
    .where("id", "=", p.agentId)
    .where((eb) => (p.runId === null ? eb.val(true) : eb("run_id", "=", p.runId)))
    .returningAll()
    .executeTakeFirst();
};

/** Records that a run could not be launched: the agent is where it was before, with the reason. */
export const recordLaunchFailed = (
  db: Db,
  p: { readonly agentId: Uuid; readonly runId: Uuid; readonly phase: Phase; readonly message: string | null },
): Promise<AgentRow | undefined> =>
  db
    .updateTable("agents")
    .set({
      phase: p.phase,
      message: p.message,
      launching: false,
      state_version: sql<number>`state_version + 1`,
      updated: sql<Date>`now()`,
    })
    .where("id", "=", p.agentId)
    .where("run_id", "=", p.runId)
    .where("phase", "in", ["created", "provisioning", "starting"])
    .returningAll()
    .executeTakeFirst();

/** Records that a create waits for values: it goes on when they come, and may be made again meanwhile. */
export const recordWaiting = async (db: Db, agentId: Uuid): Promise<void> => {
  await db
    .updateTable("agents")
    .set({ launching: false, state_version: sql<number>`state_version + 1`, updated: sql<Date>`now()` })
    .where("id", "=", agentId)
    .execute();
};

/**
 * Records that the container is down on purpose, and its run over: what it reported on its way down, and arrives later,
 * counts no more. A crash or an exhausted limit stays visible.
 */
export const recordHalted = async (
  db: Db,
  p: { readonly agentId: Uuid; readonly phase: HaltedPhase },
): Promise<AgentRow | undefined> => {
  const { rows } =
    await sql<AgentRow>`update agents set ${haltedValues(p.phase)} where id = ${p.agentId} returning *`.execute(db);
  return rows[0];
};

/** As {@link recordHalted}, in the middle of an operation. False, and nothing is written, when its socket has been replaced. */
export const recordHaltedMidway = async (
  db: Db,
  p: { readonly agentId: Uuid; readonly phase: HaltedPhase; readonly socket: OperationSocket },
): Promise<boolean> => {
  const { rows } = await sql<{ held: boolean }>`
    with ${fence(p.socket)},
    halted as (
      update agents set ${haltedValues(p.phase)} where exists (select from fence) and id = ${p.agentId})
    select exists (select from fence) as held`.execute(db);
  return rows[0]?.held === true;
};

export type HaltedPhase = "stopped" | "suspended";

/** What an agent's row says of one that runs no more. */
export const haltedValues = (phase: HaltedPhase | RawBuilder<HaltedPhase>) => sql`
  run_id = null, phase = ${phase}, tool_name = null, stalled_from_activity = null, container_status = 'stopped',
  activity = case when activity = any(${[...TERMINAL_ACTIVITIES]}::text[]) then activity end,
  running_since = null, ready_at = null, state_version = state_version + 1, updated = now()`;

/** Has an agent that could not be halted say so; it runs on, as far as anybody knows. */
export const recordHaltFailed = async (
  db: Db,
  p: { readonly agentId: Uuid; readonly message: string },
): Promise<void> => {
  await db
    .updateTable("agents")
    .set({ message: p.message, state_version: sql<number>`state_version + 1`, updated: sql<Date>`now()` })
    .where("id", "=", p.agentId)
    .where("phase", "=", "running")
    .where("deleted_at", "is", null)
    .execute();
};

/** Hides the agent until it is restored or its retention is over. */
export const softDeleteAgent = (db: Db, p: { readonly agentId: Uuid; readonly deletedAt: Date }) =>
  audited(db, (tx) =>
    tx
      .updateTable("agents")
      .set({
        phase: "stopped",
        activity: null,
        tool_name: null,
        container_status: "stopped",
        running_since: null,
        ready_at: null,
        deleted_at: p.deletedAt,
        token_version: nextTokenVersion,
        state_version: sql<number>`state_version + 1`,
        updated: sql<Date>`now()`,
      })
      .where("id", "=", p.agentId)
      .returningAll()
      .executeTakeFirst(),
  );

/** Makes a soft-deleted agent visible again. Its name may be taken: then the unique index `agents_slug` refuses. */
export const restoreAgent = (db: Db, agentId: Uuid): Promise<AgentRow | undefined> =>
  audited(db, (tx) =>
    tx
      .updateTable("agents")
      .set({
        deleted_at: null,
        phase: "stopped",
        state_version: sql<number>`state_version + 1`,
        updated: sql<Date>`now()`,
      })
      .where("id", "=", agentId)
      .where("deleted_at", "is not", null)
      .returningAll()
      .executeTakeFirst(),
  );
