import { join } from "node:path";
import type { Base, Service } from "@rootstock/service";
import { z } from "zod";
import type { OperationAnswer } from "../tunnel/answer.ts";
import { KeptForADay } from "./keptForADay.ts";

const schema = z.object({ requestId: z.string(), at: z.number(), status: z.number(), json: z.unknown() });

/**
 * Answers of create calls by their `requestId`, on disk for 24 hours (spec/01 4.3). Only successes are kept: a failed
 * attempt runs again, and one that a crash cut off is settled by its agent's record, which names the request that made it.
 */
export class CreateRequests implements Service {
  readonly #base: Base;
  readonly #kept: KeptForADay<z.infer<typeof schema>>;

  constructor(base: Base, stateDirectory: string) {
    this.#base = base;
    this.#kept = new KeptForADay(base, {
      directory: join(stateDirectory, "create-requests"),
      name: "create request",
      schema,
      keyOf: (entry) => entry.requestId,
    });
  }

  start(): Promise<void> {
    return this.#kept.start();
  }

  stop(): Promise<void> {
    return this.#kept.stop();
  }

  /** The answer that this request got before, undefined when it has none. */
  async answered(requestId: string): Promise<OperationAnswer | undefined> {
    const entry = await this.#kept.get(requestId);
    return entry && { status: entry.status, json: entry.json };
  }

  remember(requestId: string, answer: OperationAnswer): Promise<void> {
    return this.#kept.put({ requestId, at: this.#base.clock.now(), status: answer.status, json: answer.json });
  }

  /** Removes what is too old to count. */
  sweep(): Promise<void> {
    return this.#kept.sweep();
  }
}
