import type { Phase, Uuid } from "@rootstock/protocol";
import { sql } from "kysely";
import type { Db } from "../database.ts";

/** What agents' status reports read and write: many agents in one statement. */

/** The part of an agent's row that decides what a report changes. */
export interface AgentState {
  readonly id: Uuid;
  readonly projectId: Uuid;
  readonly slug: string;
  readonly runtimeBrokerId: Uuid | null;
  /** The container run that is under way; null when there is none. */
  readonly runId: Uuid | null;
  readonly phase: Phase;
  readonly activity: string | null;
  readonly toolName: string | null;
  readonly message: string | null;
  readonly stalledFromActivity: string | null;
  readonly containerStatus: string | null;
  readonly connectionState: string | null;
  readonly runtimeState: string | null;
  readonly taskSummary: string | null;
  readonly exitCode: number | null;
  readonly currentTurns: number;
  readonly currentModelCalls: number;
  readonly startedAt: Date | null;
  /** Whether it has reported an activity in this run. */
  readonly ready: boolean;
  readonly harnessAuth: string | null;
  readonly profile: string | null;
  /** Milliseconds since the row last changed, by the database's clock. */
  readonly sinceChangeMs: number;
}

const stateColumns = sql`
  a.id, a.project_id as "projectId", a.slug, a.runtime_broker_id as "runtimeBrokerId",
  a.run_id as "runId", a.phase, a.activity, a.tool_name as "toolName", a.message,
  a.stalled_from_activity as "stalledFromActivity", a.container_status as "containerStatus",
  a.connection_state as "connectionState", a.runtime_state as "runtimeState", a.task_summary as "taskSummary",
  a.exit_code as "exitCode", a.current_turns as "currentTurns", a.current_model_calls as "currentModelCalls",
  a.started_at as "startedAt", a.ready_at is not null as ready,
  a.applied_config ->> 'harnessAuth' as "harnessAuth", a.applied_config ->> 'profile' as profile,
  extract(epoch from clock_timestamp() - a.updated)::float8 * 1000 as "sinceChangeMs"`;

/** One agent that a runtime broker lists. */
export interface ListedAgent {
  readonly runtimeBrokerId: Uuid;
  readonly projectId: Uuid;
  readonly slug: string;
}

/** The live agents among `listed`, each only where that runtime broker is its own. */
export const findListedAgents = async (db: Db, listed: readonly ListedAgent[]): Promise<readonly AgentState[]> => {
  const { rows } = await sql<AgentState>`
    select ${stateColumns}
    from unnest(${listed.map((l) => l.runtimeBrokerId)}::uuid[], ${listed.map((l) => l.projectId)}::uuid[],
      ${listed.map((l) => l.slug)}::text[]) as t(runtime_broker_id, project_id, slug)
    join agents a on a.project_id = t.project_id and a.slug = t.slug
    where a.deleted_at is null and a.runtime_broker_id = t.runtime_broker_id`.execute(db);
  return rows;
};

/** The live agents with these ids, locked in id order until the transaction ends. */
export const lockAgentStates = async (db: Db, ids: readonly Uuid[]): Promise<readonly AgentState[]> => {
  const { rows } = await sql<AgentState>`
    select ${stateColumns} from agents a where a.id = any(${[...ids]}::uuid[]) and a.deleted_at is null
    order by a.id for no key update`.execute(db);
  return rows;
};

/**
 * What a report changes in an agent's row. An absent column stays; null empties it. The stamps are taken from the
 * database's clock.
 */
export interface AgentPatch {
  readonly phase?: Phase;
  readonly activity?: string | null;
  readonly toolName?: string | null;
  readonly message?: string | null;
  readonly stalledFromActivity?: null;
  readonly containerStatus?: string;
  readonly connectionState?: string;
  readonly runtimeState?: string;
  readonly taskSummary?: string;
  readonly exitCode?: number | null;
  readonly currentTurns?: number;
  readonly currentModelCalls?: number;
  /** RFC 3339. */
  readonly startedAt?: string;
  readonly harnessAuth?: string;
  readonly profile?: string;
  /** An activity was written now. */
  readonly activityStamped?: true;
  /** `now`: this run has reached `running`. `none`: the run is over. */
  readonly running?: "now" | "none";
  /** The agent itself has reported an activity: it listens. */
  readonly listens?: true;
}

/** Writes patches, one per agent, and stamps the agents as seen. Rows are locked in id order. */
export const patchAgents = async (db: Db, patches: ReadonlyMap<Uuid, AgentPatch>): Promise<void> => {
  const given = JSON.stringify([...patches].map(([id, patch]) => ({ id, p: patch })));
  await sql`
    with given as (select v.id, v.p from jsonb_to_recordset(${given}::jsonb) as v(id uuid, p jsonb)),
    locked as (
      select a.id, g.p from agents a join given g on g.id = a.id order by a.id for no key update of a)
    update agents a set last_seen = now(), updated = now(),
      phase = coalesce(p ->> 'phase', phase),
      activity = case when p ? 'activity' then p ->> 'activity' else activity end,
      tool_name = case when p ? 'toolName' then p ->> 'toolName' else tool_name end,
      message = case when p ? 'message' then p ->> 'message' else message end,
      stalled_from_activity = case when p ? 'stalledFromActivity' then null else stalled_from_activity end,
      container_status = coalesce(p ->> 'containerStatus', container_status),
      connection_state = coalesce(p ->> 'connectionState', connection_state),
      runtime_state = coalesce(p ->> 'runtimeState', runtime_state),
      task_summary = coalesce(p ->> 'taskSummary', task_summary),
      exit_code = case when p ? 'exitCode' then (p ->> 'exitCode')::int else exit_code end,
      current_turns = coalesce((p ->> 'currentTurns')::int, current_turns),
      current_model_calls = coalesce((p ->> 'currentModelCalls')::int, current_model_calls),
      started_at = coalesce((p ->> 'startedAt')::timestamptz, started_at),
      applied_config = case when p ?| array['harnessAuth', 'profile']
        then applied_config || jsonb_strip_nulls(jsonb_build_object('harnessAuth', p -> 'harnessAuth', 'profile', p -> 'profile'))
        else applied_config end,
      last_activity_event = case when p ? 'activityStamped' then now() else last_activity_event end,
      running_since = case p ->> 'running' when 'now' then now() when 'none' then null else running_since end,
      ready_at = case when p ->> 'running' = 'none' then null
        when p ->> 'running' = 'now' then case when p ? 'listens' then now() end
        when p ? 'listens' then coalesce(ready_at, now()) else ready_at end
    from locked where a.id = locked.id`.execute(db);
};

/** An agent of which there is no news. */
export interface SeenAgent {
  readonly id: Uuid;
  /** What its container engine says, perhaps with another duration than before; undefined keeps what is stored. */
  readonly containerStatus?: string | undefined;
}

/** Stamps agents as seen, in id order. */
export const markAgentsSeen = async (db: Db, seen: readonly SeenAgent[]): Promise<void> => {
  const ids = seen.map((s) => s.id);
  const statuses = seen.map((s) => s.containerStatus ?? null);
  await sql`
    with locked as (
      select a.id, s.container_status from agents a
        join unnest(${ids}::uuid[], ${statuses}::text[]) as s(id, container_status) on s.id = a.id
       order by a.id for no key update of a)
    update agents a set last_seen = now(), container_status = coalesce(locked.container_status, a.container_status)
      from locked where a.id = locked.id`.execute(db);
};
