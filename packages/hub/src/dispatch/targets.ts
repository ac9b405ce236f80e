import type { Uuid } from "@rootstock/protocol";
import { Batcher, type Clock } from "@rootstock/service";
import { type Database, type DispatchTarget, targetBySlug, targetsByIds } from "@rootstock/store";
import { breatherOf } from "./load.ts";

/** While look-ups are under way the next ones gather, and go together. One that comes alone goes at once. */
const LOOK_UPS = { windowMs: 0, maxItems: 64, concurrency: 1 };

/** So many targets are remembered: those that messages went to last. */
const MOST_REMEMBERED = 5_000;

/** What was decided on a remembered target does not hold: it has changed meanwhile. */
export class StaleTarget extends Error {}

/** Where targets are found. Agents are found deleted or not; a live one of the slug before a deleted one. */
export interface TargetLookup {
  byId(agentId: Uuid): Promise<DispatchTarget | undefined>;
  bySlug(projectId: Uuid, slug: string): Promise<DispatchTarget | undefined>;
}

/** Reads dispatch targets for many callers at once, and remembers those of the last messages. */
export class Targets implements TargetLookup {
  readonly #database: Pick<Database, "db">;
  readonly #lookUps: Batcher<Uuid, { readonly target: DispatchTarget | undefined }>;
  readonly #byId = new Map<Uuid, DispatchTarget>();
  readonly #bySlug = new Map<string, DispatchTarget>();

  constructor(clock: Clock, database: Pick<Database, "db">) {
    this.#database = database;
    const options = { ...LOOK_UPS, breather: breatherOf(clock) };
    this.#lookUps = new Batcher(clock, options, async (ids) => {
      const found = new Map((await targetsByIds(database.db, ids)).map((t) => [t.agent.id, t]));
      return ids.map((id) => ({ target: found.get(id) }));
    });
  }

  /**
   * Targets as they were when they were last read, however long ago. What is decided on one holds only if the statement
   * that acts on the decision finds the same stamp; if not, {@link forget} it.
   */
  readonly remembered: TargetLookup = {
    byId: async (agentId) => this.#byId.get(agentId),
    bySlug: async (projectId, slug) => this.#bySlug.get(keyOf(projectId, slug)),
  };

  /** As it is at this call or later. */
  async byId(agentId: Uuid): Promise<DispatchTarget | undefined> {
    const { target } = await this.#lookUps.add(agentId);
    if (target) this.#remember(target);
    return target;
  }

  async bySlug(projectId: Uuid, slug: string): Promise<DispatchTarget | undefined> {
    const target = await targetBySlug(this.#database.db, { projectId, slug });
    if (target) this.#remember(target);
    return target;
  }

  forget({ agent }: DispatchTarget): void {
    this.#byId.delete(agent.id);
    this.#bySlug.delete(keyOf(agent.project_id, agent.slug));
  }

  #remember(target: DispatchTarget): void {
    this.forget(target);
    this.#byId.set(target.agent.id, target);
    this.#bySlug.set(keyOf(target.agent.project_id, target.agent.slug), target);
    const oldest = this.#byId.size > MOST_REMEMBERED ? this.#byId.values().next().value : undefined;
    if (oldest) this.forget(oldest);
  }
}

const keyOf = (projectId: Uuid, slug: string): string => `${projectId}/${slug}`;
