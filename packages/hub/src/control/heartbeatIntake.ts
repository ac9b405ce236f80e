import type { Uuid } from "@rootstock/protocol";
import { type Base, Batcher, type Service } from "@rootstock/service";
import {
  type AgentPatch,
  type AgentState,
  applySelfReports,
  findListedAgents,
  isForeignKeyViolation,
  lockAgentStates,
  markAgentsSeen,
  patchAgents,
  type RuntimeBrokerStatus,
  type SeenAgent,
  transaction,
  writeHeartbeats,
} from "@rootstock/store";
import { type AgentReport, applyReport, refreshedStatus } from "./agentReport.ts";
import type { Announcements, PoolOfConnections } from "./ownership.ts";

/** One heartbeat of a runtime broker, read and checked. */
export interface Heartbeat {
  readonly runtimeBrokerId: Uuid;
  readonly status: RuntimeBrokerStatus;
  readonly capabilities: Readonly<Record<string, unknown>> | undefined;
  readonly agents: readonly { readonly projectId: Uuid; readonly slug: string; readonly report: AgentReport }[];
}

/** Without a socket, heartbeats make a runtime broker online for so long after its last one ended. */
const ONLINE_GRACE_MS = 90_000;
const WRITE_ATTEMPTS = 10;
/** One is answered at once; of ten thousand runtime brokers, ten go together. */
const BATCH = { windowMs: 0, gapMs: 30, eagerItems: 50, maxItems: 200, concurrency: 2 };

/**
 * Takes heartbeats in batches: thousands a minute cost a few statements each, in id order, and none of them meets the
 * claims that lock a runtime broker's row. Answered when the batch has committed.
 */
export class HeartbeatIntake implements Service {
  readonly #database: PoolOfConnections;
  readonly #announce: Pick<Announcements, "changed">;
  readonly #batches: Batcher<Heartbeat, boolean>;

  constructor(base: Base, database: PoolOfConnections, announce: Pick<Announcements, "changed">) {
    this.#database = database;
    this.#announce = announce;
    this.#batches = new Batcher(base.clock, BATCH, (heartbeats) => this.#take(heartbeats));
  }

  async start(): Promise<void> {}

  /** Resolves when every heartbeat taken has been answered. */
  stop(): Promise<void> {
    return this.#batches.idle();
  }

  /** Stores a heartbeat and what it says of agents. False when there is no such runtime broker. */
  beat(heartbeat: Heartbeat): Promise<boolean> {
    return this.#batches.add(heartbeat);
  }

  async #take(heartbeats: readonly Heartbeat[]): Promise<readonly boolean[]> {
    return this.#database.background(async () => {
      const { db } = this.#database;
      // Two of one runtime broker in a batch: the later one counts.
      const latest = new Map(heartbeats.map((h) => [h.runtimeBrokerId, h]));
      const known = await repeatedWhileGoing(() => writeHeartbeats(db, [...latest.values()]));
      const counted = [...latest.values()].filter((h) => known.has(h.runtimeBrokerId));
      const differing = counted.filter((h) => known.get(h.runtimeBrokerId)?.differs);
      const selfChanged = differing.length > 0 && (await applySelfReports(db, differing, ONLINE_GRACE_MS));
      const agentsChanged = await this.#applyReports(counted);
      if (selfChanged || agentsChanged) this.#announce.changed();
      return heartbeats.map((h) => known.has(h.runtimeBrokerId));
    });
  }

  /** Returns whether any agent changed. */
  async #applyReports(heartbeats: readonly Heartbeat[]): Promise<boolean> {
    const { db } = this.#database;
    const reports = new Map<string, { runtimeBrokerId: Uuid; projectId: Uuid; slug: string; report: AgentReport }>();
    for (const { runtimeBrokerId, agents } of heartbeats)
      for (const agent of agents)
        reports.set(keyOf(runtimeBrokerId, agent.projectId, agent.slug), { runtimeBrokerId, ...agent });
    if (reports.size === 0) return false;
    const reportOf = (agent: AgentState): AgentReport | undefined =>
      reports.get(keyOf(agent.runtimeBrokerId, agent.projectId, agent.slug))?.report;
    const listed = await findListedAgents(db, [...reports.values()]);
    const [changing, seen]: [Uuid[], SeenAgent[]] = [[], []];
    for (const agent of listed) {
      const report = reportOf(agent);
      if (!report) continue;
      if (isEmpty(applyReport(agent, report)))
        seen.push({ id: agent.id, containerStatus: refreshedStatus(agent, report) });
      else changing.push(agent.id);
    }
    if (seen.length > 0) await transaction(db, (tx) => markAgentsSeen(tx, seen));
    if (changing.length === 0) return false;
    // Judged once more under the lock: an agent's own report may have come in between.
    await transaction(db, async (tx) => {
      const patches = new Map<Uuid, AgentPatch>();
      for (const agent of await lockAgentStates(tx, changing)) {
        const report = reportOf(agent);
        if (report) patches.set(agent.id, applyReport(agent, report));
      }
      if (patches.size > 0) await patchAgents(tx, patches);
    });
    return true;
  }
}

/** One that is deleted between the look and the write must not take the heartbeats of all others with it. */
const repeatedWhileGoing = async <T>(write: () => Promise<T>): Promise<T> => {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await write();
    } catch (err) {
      if (attempt >= WRITE_ATTEMPTS || !isForeignKeyViolation(err)) throw err;
    }
  }
};

const keyOf = (runtimeBrokerId: Uuid | null, projectId: Uuid, slug: string): string =>
  `${runtimeBrokerId} ${projectId} ${slug}`;

const isEmpty = (patch: AgentPatch): boolean => Object.keys(patch).length === 0;
