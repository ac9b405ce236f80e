import type { Uuid } from "@rootstock/protocol";
import type { Clock } from "@rootstock/service";
import { type Database, type DispatchTarget, targetsByIds } from "@rootstock/store";
import { Batcher } from "../control/index.ts";
import { breatherOf } from "./load.ts";

/** While look-ups are under way the next ones gather, and go together. One that comes alone goes at once. */
const LOOK_UPS = { windowMs: 0, maxItems: 64, concurrency: 1 };

/** Reads dispatch targets for many callers at once: under load one statement serves them all. */
export class Targets {
  readonly #lookUps: Batcher<Uuid, { readonly target: DispatchTarget | undefined }>;

  constructor(clock: Clock, database: Pick<Database, "db">) {
    this.#lookUps = new Batcher(clock, { ...LOOK_UPS, breather: breatherOf(clock) }, async (ids) => {
      const found = new Map((await targetsByIds(database.db, ids)).map((t) => [t.agent.id, t]));
      return ids.map((id) => ({ target: found.get(id) }));
    });
  }

  /** The agent with this id as it is at this call or later, deleted or not. */
  async byId(agentId: Uuid): Promise<DispatchTarget | undefined> {
    return (await this.#lookUps.add(agentId)).target;
  }
}
