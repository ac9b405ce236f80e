import { join } from "node:path";
import type { Base, Service } from "@rootstock/service";
import { z } from "zod";
import { type CreatePayload, createPayload } from "./createPayload.ts";
import { KeptForADay } from "./keptForADay.ts";

const schema = z.object({ agentId: z.string(), at: z.number(), payload: createPayload });

/** Creates that wait for values from the person's environment (spec/01 4.4), on disk for 24 hours; they hold secrets. */
export class PendingCreates implements Service {
  readonly #base: Base;
  readonly #kept: KeptForADay<z.infer<typeof schema>>;

  constructor(base: Base, stateDirectory: string) {
    this.#base = base;
    this.#kept = new KeptForADay(base, {
      directory: join(stateDirectory, "pending-creates"),
      name: "pending create",
      schema,
      keyOf: (entry) => entry.agentId,
    });
  }

  start(): Promise<void> {
    return this.#kept.start();
  }

  stop(): Promise<void> {
    return this.#kept.stop();
  }

  put(agentId: string, payload: CreatePayload): Promise<void> {
    return this.#kept.put({ agentId, at: this.#base.clock.now(), payload });
  }

  async get(agentId: string): Promise<CreatePayload | undefined> {
    return (await this.#kept.get(agentId))?.payload;
  }

  remove(agentId: string): Promise<void> {
    return this.#kept.remove(agentId);
  }

  /** Removes what nobody has finished in time. */
  sweep(): Promise<void> {
    return this.#kept.sweep();
  }
}
