import type { Uuid } from "@rootstock/protocol";
import { type RawBuilder, sql } from "kysely";
import type { Db } from "../database.ts";
import { statement } from "../statement.ts";
import type { RuntimeBrokerStatus, SharedDir, Visibility } from "../tables.ts";
import { uuids } from "./heldSockets.ts";
import { after, type Page } from "./keyset.ts";
import type { AgentRow } from "./lifecycle.ts";

/** An agent with everything that decides whether and how an operation reaches it: one query. */
export interface DispatchTarget {
  readonly agent: AgentRow;
  readonly project: {
    readonly id: Uuid;
    readonly name: string;
    readonly slug: string;
    readonly gitRemote: string | null;
    readonly ownerId: Uuid | null;
    readonly visibility: Visibility;
    readonly labels: Readonly<Record<string, string>>;
    readonly sharedDirs: readonly SharedDir[];
  };
  /** Null when the agent has none. */
  readonly runtimeBroker: TargetRuntimeBroker | null;
  /** Where the project lies on that runtime broker, if it said. */
  readonly localPath: string | null;
  /** See {@link targetStamp}; empty where nobody asked for it. */
  readonly stamp: string;
}

export interface TargetRuntimeBroker {
  readonly id: Uuid;
  readonly name: string;
  readonly status: RuntimeBrokerStatus;
  readonly connectedHubId: Uuid | null;
  readonly connectedSessionId: Uuid | null;
  /** Seconds since its last socket ended; null while connected, or when it never had one. */
  readonly awaySeconds: number | null;
}

/**
 * What may change about the agent `a` of the project `p` at the runtime broker `rb` that decides whether a message to it
 * is accepted, in one number: who may send it, and whether it goes at once. Ids and what never changes are left out.
 */
export const targetStamp = sql<string>`hashtextextended(row(a.slug, a.owner_id, a.ancestry, a.labels, a.visibility, a.phase, a.deleted_at,
  a.runtime_broker_id, a.running_since, a.ready_at is null, p.owner_id, p.visibility, rb.status,
  rb.connected_hub_id is null)::text, 0)`;

/** The agent `a`, whatever `agent` selects, with what its stamp is made of. */
export const withStamp = (agent: RawBuilder<unknown>) => sql`(${agent} a join projects p on p.id = a.project_id
  left join runtime_brokers rb on rb.id = a.runtime_broker_id)`;

/** Whether a target is what it was when it had this stamp; true without one. */
export const isUnchanged = (stamp: RawBuilder<unknown>) =>
  sql<boolean>`(${stamp} is null or ${stamp} = ${targetStamp})`;

/** The SELECT of targets; `where` picks the agents. */
const targets = (where: RawBuilder<unknown>, stamp: RawBuilder<string> = sql`''`): RawBuilder<JoinedRow> =>
  sql<JoinedRow>`
    select a.*, ${stamp} as stamp,
           p.name as p_name, p.slug as p_slug, p.git_remote as p_git_remote, p.owner_id as p_owner_id, p.visibility as p_visibility,
           p.labels as p_labels, p.shared_dirs as p_shared_dirs,
           rb.name as rb_name, rb.status as rb_status, rb.connected_hub_id as rb_hub, rb.connected_session_id as rb_session,
           extract(epoch from now() - rb.disconnected_at)::float8 as rb_away,
           pp.local_path as pp_local_path
      from agents a
      join projects p on p.id = a.project_id
      left join runtime_brokers rb on rb.id = a.runtime_broker_id
      left join project_providers pp on pp.project_id = a.project_id and pp.runtime_broker_id = a.runtime_broker_id
     where ${where}`;

const selectTargets = async (db: Db, where: RawBuilder<unknown>): Promise<DispatchTarget[]> =>
  (await targets(where).execute(db)).rows.map(toTarget);

interface JoinedRow extends AgentRow {
  readonly p_name: string;
  readonly p_slug: string;
  readonly p_git_remote: string | null;
  readonly p_owner_id: Uuid | null;
  readonly p_visibility: Visibility;
  readonly p_labels: Readonly<Record<string, string>>;
  readonly p_shared_dirs: readonly SharedDir[];
  readonly rb_name: string | null;
  readonly rb_status: RuntimeBrokerStatus | null;
  readonly rb_hub: Uuid | null;
  readonly rb_session: Uuid | null;
  readonly rb_away: number | null;
  readonly pp_local_path: string | null;
  readonly stamp: string;
}

const toTarget = (row: JoinedRow): DispatchTarget => {
  const {
    p_name,
    p_slug,
    p_git_remote,
    p_owner_id,
    p_visibility,
    p_labels,
    p_shared_dirs,
    rb_name,
    rb_status,
    rb_hub,
    rb_session,
    rb_away,
    pp_local_path,
    stamp,
    ...agent
  } = row;
  return {
    agent,
    project: {
      id: agent.project_id,
      name: p_name,
      slug: p_slug,
      gitRemote: p_git_remote,
      ownerId: p_owner_id,
      visibility: p_visibility,
      labels: p_labels,
      sharedDirs: p_shared_dirs,
    },
    runtimeBroker:
      agent.runtime_broker_id === null || rb_name === null || rb_status === null
        ? null
        : {
            id: agent.runtime_broker_id,
            name: rb_name,
            status: rb_status,
            connectedHubId: rb_hub,
            connectedSessionId: rb_session,
            awaySeconds: rb_away,
          },
    localPath: pp_local_path,
    stamp,
  };
};

const withId = statement<Uuid, JoinedRow>((given) => targets(sql`a.id = ${given((id) => id)}`));
const withIds = statement<readonly Uuid[], JoinedRow>((given) =>
  targets(sql`a.id = any(${uuids(given, (ids) => ids)})`, targetStamp),
);
const withSlug = statement<{ readonly projectId: Uuid; readonly slug: string }, JoinedRow>((given) =>
  targets(
    sql`a.project_id = ${given((p) => p.projectId)} and a.slug = ${given((p) => p.slug)}
      order by a.deleted_at is not null, a.deleted_at desc limit 1`,
    targetStamp,
  ),
);

/** The agent with this id, deleted or not. */
export const targetById = async (db: Db, agentId: Uuid): Promise<DispatchTarget | undefined> =>
  (await withId(db, agentId)).rows.map(toTarget)[0];

/** The agents with these ids and their stamps, deleted or not, in no order; missing ones are left out. */
export const targetsByIds = async (db: Db, agentIds: readonly Uuid[]): Promise<DispatchTarget[]> =>
  (await withIds(db, agentIds)).rows.map(toTarget);

/** The project's agent with this slug, and its stamp; a live one before a deleted one, the newest of those. */
export const targetBySlug = async (
  db: Db,
  p: { readonly projectId: Uuid; readonly slug: string },
): Promise<DispatchTarget | undefined> => (await withSlug(db, p)).rows.map(toTarget)[0];

/** Live agents with this slug in any project: `/agents/{slug}` is served when it is one (spec/02 2.1). */
export const targetsBySlug = (db: Db, slug: string): Promise<DispatchTarget[]> =>
  selectTargets(db, sql`a.slug = ${slug} and a.deleted_at is null limit 2`);

/** The project's running agents, oldest first: whom a broadcast or a stop of all reaches. */
export const runningTargets = (db: Db, projectId: Uuid | null): Promise<DispatchTarget[]> =>
  selectTargets(
    db,
    sql`a.phase = 'running' and a.deleted_at is null
      and (${projectId}::uuid is null or a.project_id = ${projectId}::uuid) order by a.created, a.id`,
  );

/** A page of the project's agents, newest first, deleted ones included. */
export const targetsOfProject = (db: Db, projectId: Uuid, page: Page): Promise<DispatchTarget[]> =>
  selectTargets(
    db,
    sql`a.project_id = ${projectId} and ${after("a", page.after)} order by a.created desc, a.id desc limit ${page.limit}`,
  );
